"""The quick linear probe: logistic regression on features computed once.

python main.py evaluate --config=evaluate/linear_cached --workdir=DIR

Takes 24 s for the default run, on two CPU cores (docs/notebook/evaluation.md).
"""

from ml_collections import ConfigDict

from clim_jax.configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  evaluation = config.evaluation
  evaluation.name = "linear_cached"
  evaluation.protocols = ("linear_cached", "few_label")
  return config
