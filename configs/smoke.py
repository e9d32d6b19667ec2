"""Every part of a run in under a minute on two CPU cores; its figures mean nothing.

python main.py --config=smoke --workdir=runs/smoke
"""

from ml_collections import ConfigDict

from clim_jax.configs import digits


def get_config() -> ConfigDict:
  config = digits.get_config()
  config.name = "smoke"
  config.epochs = 4
  config.views.sides = (8,)
  config.views.min_scales = (0.2,)
  config.views.max_scales = (1.0,)
  config.views.evaluation_side = 8
  config.model.width = 8
  config.selection.warmup_epochs = 1
  config.selection.refresh_epochs = 2
  config.log.every_steps = 5
  config.checkpoint.every_epochs = 2
  config.evaluation.linear_cached.iterations = 50
  config.evaluation.few_label.iterations = 50
  return config
