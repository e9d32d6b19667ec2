"""Imagenette, or any image folder of its size: ROOT/{train,val}/CLASS/*.jpg.

python main.py --config=imagenette --config.data.path=ROOT --workdir=runs/imagenette

Not trained with this code. On a CPU add --config.model.stem=imagenet: ResNet-18 at 64
pixels then makes 156 images/s on two cores for MoCo v2 with one side
(benchmarks/train_step.py), and its exports fit timm and transformers.
"""

from ml_collections import ConfigDict

from clim_jax.configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  config.name = "imagenette"
  config.batch_size = 128

  config.data.source = "folder"
  config.data.test_split = "val"

  config.views.sides = (64, 48)
  config.views.min_scales = (0.2, 0.15)
  config.views.max_scales = (1.0, 0.75)
  config.views.evaluation_side = 64

  config.augment.blur_sigma = (0.1, 1.0)

  config.moco.queue_size = 2048
  config.moco.momentum = 0.99

  config.selection.num_neighbours = 20
  config.selection.num_centers = 60

  config.evaluation.knn.neighbours = (20,)
  return config
