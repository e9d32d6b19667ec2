"""CLIM on ImageNet by a v4-32: 16 chips of 32 GiB, 4 hosts.

On every host:
python main.py --config=pods/v4_32 --distributed \
  --config.data.path=/data/imagenet --workdir=gs://BUCKET/clim

64 anchors a chip. Rate and warm-up are for 1,024 anchors a step, by the linear rule;
they are our choice. The step was compiled for eight v4 and v5e, not for this slice, and
no TPU has run it. At the bound that this gives (docs/notebook/performance.md) a host's
four chips would want about 70 cores for input.
"""

from ml_collections import ConfigDict

from clim_jax.configs import clim_imagenet


def get_config() -> ConfigDict:
  config = clim_imagenet.get_config()
  config.name = "clim_imagenet_v4_32"
  config.batch_size = 1024
  config.optimizer.warmup_epochs = 5.0
  config.selection.scoring = "bfloat16"  # as exact; products on the matrix units
  config.evaluation.batch_size = 1024
  return config
