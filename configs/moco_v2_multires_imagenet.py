"""MoCo v2 with multi-resolution crops and no selection, on ImageNet.

The arm to hold CLIM against: multi-resolution alone brings relatives of CLIM several
points, which must not be credited to selection.

python main.py --config=moco_v2_multires_imagenet \
  --config.data.path=/data/imagenet --workdir=runs/moco_v2_multires

Not trained with this code. Compiled for TPU v5e: 4.2 GiB with 32 images a chip
(benchmarks/tpu_compile.py).
"""

from ml_collections import ConfigDict

from clim_jax.configs import moco_v2_imagenet


def get_config() -> ConfigDict:
  config = moco_v2_imagenet.get_config()
  config.name = "moco_v2_multires_imagenet"
  # Sides and scales of CLSA and HCSC; which ones CLIM used is not known.
  config.views.sides = (224, 192, 160, 128, 96)
  config.views.min_scales = (0.2, 0.172, 0.143, 0.114, 0.086)
  config.views.max_scales = (1.0, 0.86, 0.715, 0.571, 0.429)
  return config
