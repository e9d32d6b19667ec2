"""Weighted kNN over a grid of k and temperature, on a run or on weights.

python main.py evaluate --config=evaluate/knn --workdir=DIR

Takes 10 s for the default run, on two CPU cores (docs/notebook/evaluation.md).
"""

from ml_collections import ConfigDict

from clim_jax.configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  evaluation = config.evaluation
  evaluation.name = "knn"
  evaluation.protocols = ("knn",)
  evaluation.knn.neighbours = (1, 5, 10, 20, 50, 100, 200)
  evaluation.knn.temperatures = (0.03, 0.07, 0.1)
  return config
