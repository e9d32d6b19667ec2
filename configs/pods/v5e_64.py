"""CLIM on ImageNet by a v5e-64: 64 chips of 16 GiB, 16 hosts.

On every host:
python main.py --config=pods/v5e_64 --distributed \
  --config.data.path=/data/imagenet --workdir=gs://BUCKET/clim

32 anchors a chip, which the compiled step makes better use of than 64
(docs/notebook/performance.md). Rate and warm-up are for 2,048 anchors a step, by the
linear rule; they are our choice. That step was compiled for eight chips, not for this
slice, and no TPU has run it. At its bound a host's four would want about 40 cores for
input.
"""

from ml_collections import ConfigDict

from clim_jax.configs.pods import v4_32


def get_config() -> ConfigDict:
  config = v4_32.get_config()
  config.name = "clim_imagenet_v5e_64"
  config.batch_size = 2048
  config.optimizer.warmup_epochs = 10.0
  config.evaluation.batch_size = 2048
  return config
