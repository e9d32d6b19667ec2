"""MoCo's linear probe: SGD on a frozen backbone that sees random crops and flips.

python main.py evaluate --config=evaluate/linear --workdir=DIR

MoCo's own setting is --config.evaluation.linear.learning_rates=30.0 and
--config.evaluation.linear.weight_decays=0.0; then nothing is held out.

Takes 38 s for the default run, on two CPU cores (docs/notebook/evaluation.md).
"""

from ml_collections import ConfigDict

from clim_jax.configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  evaluation = config.evaluation
  evaluation.name = "linear"
  evaluation.protocols = ("linear",)
  return config
