"""CIFAR-10 as `.npz` arrays; docs/data.md shows the command that makes them.

python main.py --config=cifar10 --config.data.path=train.npz \
  --config.data.test_path=test.npz --workdir=runs/cifar10

Not trained with this code. A step of MoCo v2 takes 3.8 s on two CPU cores, of CLIM
about twice as long (benchmarks/train_step.py): 200 epochs would be 42 and 80 hours.
"""

from ml_collections import ConfigDict

from clim_jax.configs import base


def get_config() -> ConfigDict:
  config = base.get_config()
  config.name = "cifar10"

  config.data.source = "npz"
  config.data.pixel_mean = (0.491, 0.482, 0.447)
  config.data.pixel_std = (0.247, 0.243, 0.262)

  config.augment.blur_probability = 0.0  # 32 pixels are blurred enough

  config.moco.queue_size = 4096
  config.moco.momentum = 0.99

  config.selection.num_centers = 200

  # 50,000 images of 3,072 raw pixels would take longer to probe than the features.
  config.evaluation.raw_pixel_side = 16
  config.evaluation.linear_cached.regularisers = (1e-6, 1e-5, 1e-4, 1e-3)
  config.evaluation.linear_cached.iterations = 100
  config.evaluation.few_label.iterations = 100
  return config
