"""Other data sets: the quick linear probe, and fine-tuning with all their labels.

python main.py evaluate --config=evaluate/transfer --workdir=DIR \
  --config.evaluation.datasets="('folder:/data/pets','npz:a.npz,b.npz')"

Its time has not been measured.
"""

from ml_collections import ConfigDict

from clim_jax.configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  evaluation = config.evaluation
  evaluation.name = "transfer"
  evaluation.protocols = ("linear_cached", "finetune")
  evaluation.finetune.fractions = (1.0,)
  evaluation.finetune.settings = ((0.001, 0.1), (0.01, 0.1), (0.01, 1.0))
  evaluation.finetune.epochs = 50
  evaluation.finetune.seeds = (0,)
  return config
