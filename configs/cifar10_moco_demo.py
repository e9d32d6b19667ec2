"""MoCo's CIFAR-10 demo, to be set beside its published kNN accuracies.

python main.py --config=cifar10_moco_demo --config.data.path=train.npz \
  --config.data.test_path=test.npz --workdir=runs/demo

Published, 200 epochs, original pixels: 82.6% one-sided, 85.3% symmetric
(https://github.com/facebookresearch/moco, its CIFAR demo). This project has not trained
it. The demo adds up the two directions where this code takes their mean, so its
symmetric run is that with twice the rate and half the decay:

--config.moco.symmetric=True --config.optimizer.learning_rate=0.06 \
  --config.optimizer.weight_decay=2.5e-4

What differs and cannot be said here: the demo's head is one linear layer, ours has two;
its rate falls once an epoch, ours every step. Its eight groups of batch normalisation
are those of any config on up to eight devices.
"""

from ml_collections import ConfigDict

from clim_jax.configs import cifar10


def get_config() -> ConfigDict:
  config = cifar10.get_config()
  config.name = "cifar10_moco_demo"
  config.epochs = 200
  config.batch_size = 512

  config.data.pixel_mean = (0.4914, 0.4822, 0.4465)
  config.data.pixel_std = (0.2023, 0.1994, 0.2010)

  config.views.min_scales = (0.08,)  # torchvision's default

  config.moco.temperature = 0.1

  config.selection.rule = "none"

  config.optimizer.learning_rate = 0.03  # 0.06 at this batch
  config.optimizer.weight_decay = 5e-4

  config.evaluation.protocols = ("knn",)
  config.evaluation.layer = "embedding"  # the demo's kNN sees the output of the head
  config.evaluation.knn.neighbours = (200,)
  config.evaluation.knn.temperatures = (0.1,)
  return config
