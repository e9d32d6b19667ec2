"""CLIM on ImageNet by one host with eight H100 or H200.

XLA_CLIENT_MEM_FRACTION=0.95 python main.py --config=pods/h100_8 \
  --config.data.path=/data/imagenet --workdir=/runs/clim

128 anchors a card. Rate and warm-up are for 1,024 anchors a step, by the linear rule;
they are our choice. The step has been lowered for CUDA and not compiled; no GPU has run
it yet. Where memory is short: --config.model.recompute=True, or
--config.optimizer.accumulate_steps=2.
"""

from ml_collections import ConfigDict

from clim_jax.configs.pods import v4_32


def get_config() -> ConfigDict:
  config = v4_32.get_config()
  config.name = "clim_imagenet_h100_8"
  return config
