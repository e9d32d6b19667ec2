"""The default: scikit-learn's handwritten digits, on two CPU cores.

python main.py --config=digits --workdir=runs/digits

Takes about 4 minutes there, installation included. No harm of the second side was seen
on a fifth of the training images, held out; on the test images it helps with few labels
(docs/evidence.md, python benchmarks/ablation.py --cells='digits*/full/*').
"""

from ml_collections import ConfigDict

from clim_jax.configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  config.name = "digits"
  config.epochs = 40
  config.batch_size = 64  # 22 steps an epoch: so few images want many steps

  config.data.source = "digits"
  config.data.pixel_mean = (0.3, 0.3, 0.3)
  config.data.pixel_std = (0.38, 0.38, 0.38)

  # The scales of the smaller side are those of the larger, by the ratio of sides.
  config.views.sides = (16, 12)
  config.views.min_scales = (0.2, 0.15)
  config.views.max_scales = (1.0, 0.75)
  config.views.evaluation_side = 16

  config.augment.jitter_probability = 0.0
  config.augment.grayscale_probability = 0.0
  config.augment.blur_probability = 0.0
  config.augment.flip_probability = 0.0

  config.model.backbone = "resnet_small"
  config.model.width = 32
  config.model.hidden_dim = 512

  config.moco.temperature = 0.1
  config.moco.queue_size = 1024
  config.moco.momentum = 0.99

  config.selection.num_neighbours = 20
  config.selection.num_centers = 40
  config.selection.warmup_epochs = 8

  config.optimizer.learning_rate = 0.12
  config.optimizer.warmup_epochs = 4.0

  config.log.every_steps = 20
  config.evaluation.knn.neighbours = (20,)
  return config
