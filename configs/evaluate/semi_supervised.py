"""Fine-tuning with 1% and 10% of the labels, mean and deviation over three draws.

python main.py evaluate --config=evaluate/semi_supervised --workdir=DIR

With ImageNet, give SimCLR's lists:
  --config.evaluation.finetune.label_lists="('1percent.txt','10percent.txt')"

Takes 46 s for the default run, on two CPU cores (docs/notebook/evaluation.md).
"""

from ml_collections import ConfigDict

from clim_jax.configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  evaluation = config.evaluation
  evaluation.name = "semi_supervised"
  evaluation.protocols = ("finetune",)
  return config
