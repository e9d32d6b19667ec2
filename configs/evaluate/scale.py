"""Robustness to scale: the same encoder shown images at several sides.

python main.py evaluate --config=evaluate/scale --workdir=CLIM_RUN \
  --config.evaluation.compare=MOCO_RUN

The probe is trained and tested at each side. Writes a table and a curve.

Takes 47 s for two default runs, on two CPU cores (docs/notebook/evaluation.md).
"""

from ml_collections import ConfigDict

from clim_jax.configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  evaluation = config.evaluation
  evaluation.name = "scale"
  evaluation.protocols = ("knn", "linear_cached")
  # 224, 192, 160, 128 and 96 pixels of 224, the sides of multi-resolution training.
  evaluation.scales = (1.0, 6 / 7, 5 / 7, 4 / 7, 3 / 7)
  evaluation.knn.neighbours = (20,)
  return config
