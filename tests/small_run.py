"""Whole runs in seconds: any config, shrunk, on random images."""

import json
import pathlib

import jax
import numpy as np

from clim_jax import launch
from clim_jax.experiment import configuration
from clim_jax.experiment.checkpoints import Checkpoints
from clim_jax.experiment.experiment import open_experiment

ROOT = pathlib.Path(__file__).parent.parent
IMAGES, CLASSES, SIDE = 38, 3, 12  # not divisible by the eight devices
TEST_IMAGES = 25
# By name; those of pods differ from clim_imagenet's in what `small` shrinks.
CONFIGS = [
  f"{path.stem}:5000" if path.stem == "own_images" else path.stem
  for path in sorted((ROOT / "configs").glob("*.py"))
]


def small(name, path, **changes):
  """A config shrunk to two epochs of two steps; the second epoch has positives.

  Without the draws of the augmentations and without test images, and so without
  evaluation: they would take most of the compile time.
  """
  config = configuration.load(name)
  config.epochs, config.batch_size = 2, 16
  config.data.update(source="npz", path=str(path), test_fraction=0.0)
  config.data.test_path = ""
  config.views.sides = tuple(8 - side for side in range(len(config.views.sides)))
  config.views.evaluation_side = 8
  config.augment.update(jitter_probability=0.0, blur_probability=0.0)
  config.model.update(backbone="resnet_small", width=2, batch_norm_groups=8)
  config.model.update(hidden_dim=8, embedding_dim=4)
  config.moco.queue_size = 32
  config.selection.update(num_neighbours=6, num_centers=3, warmup_epochs=1)
  config.selection.kmeans_iterations = 2
  config.log.update(every_steps=1, destinations=())
  config.report.at_end = False
  config.checkpoint.every_epochs = 1
  shrink_evaluation(config.evaluation)
  for key, value in changes.items():
    section, name = key.split("__")
    config[section][name] = value
  return config


def shrink_evaluation(evaluation):
  """Batches for eight devices, few settings, few steps."""
  evaluation.batch_size = 16
  evaluation.knn.neighbours = (1, 5)
  evaluation.linear_cached.update(regularisers=(1e-4, 1e-2), iterations=5)
  evaluation.few_label.update(counts=(1,), seeds=(0, 1), iterations=5)
  evaluation.linear.update(epochs=2, batch_size=16, learning_rates=(0.1, 1.0))
  evaluation.finetune.update(epochs=2, batch_size=16, seeds=(0, 1))
  evaluation.finetune.settings = ((0.01, 0.1), (0.1, 1.0))
  evaluation.raw_pixel_side = 6


def run(config, workdir, mode="pretrain"):
  launch.run(config, mode, workdir)
  return logged(workdir)


def logged(workdir):
  return [json.loads(line) for line in (workdir / "metrics.jsonl").open()]


def restored(config, workdir):
  """All that the newest checkpoint of a run holds."""
  experiment = open_experiment(config)
  checkpoints = Checkpoints(workdir / "checkpoints")
  checkpoint = checkpoints.restore(checkpoints.newest(), experiment.init_state())
  checkpoints.close()
  return jax.device_get(checkpoint)


def assert_same_checkpoint(config, *workdirs):
  """The newest checkpoints hold the same, bit for bit."""
  first, *others = (jax.tree.leaves(restored(config, path)) for path in workdirs)
  for other in others:
    for a, b in zip(first, other, strict=True):
      np.testing.assert_array_equal(a, b)
