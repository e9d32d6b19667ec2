"""Online probes: how a run fares while it trains, on a share of the images.

They read a copy of the query encoder's features and give nothing back, so a run is bit
for bit the same with and without them. Their figures are named `online/…`: few images
and a fixed setting make them cheap, and not to be compared with an evaluation's.
"""

import dataclasses
import time
from typing import Any

import numpy as np

from clim_jax.evaluate.datasets import LabelledSet, labelled_set
from clim_jax.evaluate.task import Task
from clim_jax.experiment.experiment import Experiment, evaluation_crop, make_encoder
from clim_jax.probes.heads import SharedRows, fit_regularisers, head_accuracies
from clim_jax.probes.knn import knn_accuracies
from clim_jax.probes.subjects import Subject


class OnlineProbes:
  """kNN and linear accuracy of an encoder, on the same images each time."""

  def __init__(self, experiment: Experiment, data: LabelledSet) -> None:
    self._mesh, self._config = experiment.mesh, experiment.config
    self._evaluation = self._config.evaluation.copy_and_resolve_references()
    self._evaluation.layer = "features"  # whatever layer the evaluation looks at
    self._encoder = make_encoder(self._config, self._mesh, groups=1)
    train = _draw(data.train.num_images, self._config.online.train_images)
    test = _draw(data.test.num_images, self._config.online.test_images)
    self._data = dataclasses.replace(
      data,
      train=data.train.subset(train),
      test=data.test.subset(test),
      train_labels=data.train_labels[train],
      test_labels=data.test_labels[test],
    )

  def __call__(self, params: Any, stats: Any) -> dict[str, float]:
    """Top-1 accuracies in [0, 1], and what they cost in seconds."""
    started = time.perf_counter()
    variables = {"params": params, "batch_stats": stats}
    task = Task(
      mesh=self._mesh,
      subject=Subject("online", self._encoder, variables),
      data=self._data,
      crop=evaluation_crop(self._config),
      flip_probability=0.0,
      config=self._evaluation,
      track=lambda loop, _: loop,
    )
    (train, test), config = task.rows, self._config.online
    neighbours = min(config.neighbours, len(train.labels))
    (knn,) = knn_accuracies(
      self._mesh,
      *train,
      *test,
      num_classes=self._data.num_classes,
      settings=[(neighbours, config.temperature)],
    )
    head = fit_regularisers(
      self._mesh,
      SharedRows.put(self._mesh, *train),
      np.arange(len(train.labels)),
      np.float32([config.regulariser]),
      num_classes=self._data.num_classes,
      max_iterations=config.iterations,
    )
    return {
      "knn_top1": knn,
      "linear_top1": head_accuracies(head, *test)[0],
      "seconds": time.perf_counter() - started,
    }


def online_probes(experiment: Experiment) -> OnlineProbes | None:
  """None if they are switched off, or there are no labels or no test images."""
  if not experiment.config.online.every_epochs:
    return None
  data = labelled_set("online", experiment.train, experiment.test)
  return None if data is None else OnlineProbes(experiment, data)


def _draw(num_images: int, at_most: int) -> np.ndarray:
  """Ids of the images looked at, the same in every run."""
  ids = np.random.default_rng(0).permutation(num_images)[:at_most]
  return np.sort(ids)
