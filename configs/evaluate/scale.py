"""Robustness to scale: the same encoder shown images at several sides.

python main.py --mode=evaluate --config=configs/evaluate/scale.py --workdir=CLIM_RUN \
  --config.evaluation.compare="('MOCO_RUN',)" \
  --config.evaluation.sides='(224,192,160,128,96)'

The probe is trained and tested at each side. Writes a table and a curve.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  evaluation = config.evaluation
  evaluation.name = "scale"
  evaluation.protocols = ("knn", "linear_cached")
  evaluation.sides = (32, 28, 24, 20, 16, 12)
  evaluation.knn.neighbours = (20,)
  return config
