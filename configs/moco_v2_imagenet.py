"""MoCo v2 on ImageNet, ResNet-50, 200 epochs: the base that CLIM adds to.

python main.py --config=moco_v2_imagenet --config.data.path=/data/imagenet \
  --workdir=runs/moco_v2

The folder holds train/CLASS/*.JPEG and val/CLASS/*.JPEG. Not trained with this code;
the published accuracy of this recipe is 67.5% linear top-1 (Chen et al. 2020). Compiled
for TPU v5e: 4.7 GiB with 128 images a chip (benchmarks/tpu_compile.py).
"""

from ml_collections import ConfigDict

from clim_jax.configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  config.name = "moco_v2_imagenet"

  config.data.source = "folder"
  config.data.test_split = "val"

  config.views.sides = (224,)
  config.views.evaluation_side = 224
  config.views.evaluation_fraction = 0.875

  config.model.backbone = "resnet50"
  config.model.stem = "imagenet"

  config.selection.rule = "none"

  config.checkpoint.every_epochs = 1

  # Linear and few-label figures take longer: configs/evaluate/ has them.
  config.evaluation.protocols = ("knn",)
  config.evaluation.knn.neighbours = (20,)
  return config
