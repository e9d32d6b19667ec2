"""A folder of your own, of 1,000 to 100,000 images: values that follow their number.

python main.py --config=own_images:5000 --config.data.path=FOLDER --workdir=runs/mine

The number need not be exact. At least 7,500 steps and 100 epochs, for short runs end at
chance while their loss still looks alive. For crops of 128 px on a GPU add
--config.views.sides=128,96 --config.views.evaluation_side=128.
"""

import math

from ml_collections import ConfigDict

from clim_jax.configs import imagenette

_STEPS, _EPOCHS = 7_500, 100  # at least


def get_config(num_images: int) -> ConfigDict:
  """For about so many images to train on."""
  config = imagenette.get_config()
  config.name = "own_images"
  config.batch_size = 64 if num_images < 10_000 else 128 if num_images < 40_000 else 256
  steps_per_epoch = max(num_images // config.batch_size, 1)
  config.epochs = max(_EPOCHS, math.ceil(_STEPS / steps_per_epoch))

  config.augment.blur_probability = 0.0  # small crops are blurred enough
  config.model.stem = "imagenet"

  config.moco.temperature = 0.1
  # Fewer keys than images: else most of the queue is older keys of the same images.
  config.moco.queue_size = min(2 ** int(math.log2(max(num_images, 2) / 2)), 65536)

  config.selection.num_centers = max(round(math.sqrt(num_images)), 2)
  config.selection.warmup_epochs = config.epochs // 5
  config.selection.refresh_epochs = max(config.epochs // 40, 1)

  config.optimizer.learning_rate = 0.06
  config.optimizer.weight_decay = 5e-4
  return config
