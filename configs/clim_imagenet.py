"""CLIM on ImageNet, ResNet-50, 200 epochs: the paper's recipe as far as it is known.

python main.py --config=clim_imagenet --config.data.path=/data/imagenet \
  --workdir=runs/clim

Not trained with this code. The paper reports 75.5% linear top-1 for its best schedule,
whose length it does not state. Compiled for TPU v5e: 14.2 GiB with 64 images a chip
(benchmarks/tpu_compile.py); docs/tpu_and_gpu.md says what to do where memory ends.
"""

from ml_collections import ConfigDict

from clim_jax.configs import moco_v2_multires_imagenet


def get_config() -> ConfigDict:
  config = moco_v2_multires_imagenet.get_config()
  config.name = "clim_imagenet"
  config.selection.rule = "center_wise"
  config.selection.num_neighbours = 40
  config.selection.num_centers = 2000  # our choice
  config.selection.warmup_epochs = 10  # our choice
  config.selection.refresh_epochs = 5  # of CsMl, the same group's sibling method
  config.mixture.kind = "cutmix"
  config.mixture.alpha = 2.0  # of CsMl
  config.mixture.weight = 0.5  # our choice
  return config
