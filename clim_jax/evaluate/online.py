"""Online probes: how a run fares while it trains, on a share of the images.

They read a copy of the query encoder's features and give nothing back, so a run is bit
for bit the same with and without them. Their figures are named `online/…`: few images
and a fixed setting make them cheap, and not to be compared with an evaluation's.
"""

import time
from typing import Any

import numpy as np

from clim_jax.data.pipeline import with_stand_ins
from clim_jax.evaluate.datasets import LabelledSet, labelled_set
from clim_jax.evaluate.features import extract, normalise
from clim_jax.experiment.experiment import Experiment, make_encoder
from clim_jax.probes.heads import SharedRows, fit_regularisers, head_accuracies
from clim_jax.probes.knn import knn_accuracies
from clim_jax.probes.subjects import Subject


class OnlineProbes:
  """kNN and linear accuracy of an encoder, on the same images each time."""

  def __init__(self, experiment: Experiment, data: LabelledSet) -> None:
    config = experiment.config.online
    self._experiment, self._config = experiment, config
    self._encoder = make_encoder(experiment.config, groups=1)
    train = _draw(data.train.num_images, config.train_images)
    test = _draw(data.test.num_images, config.test_images)
    self._sources = data.train.subset(train), data.test.subset(test)
    self._labels = data.train_labels[train], data.test_labels[test]
    self._num_classes = data.num_classes

  def __call__(self, params: Any, stats: Any) -> dict[str, float]:
    """Top-1 accuracies in [0, 1], and what they cost in seconds."""
    started = time.perf_counter()
    variables = {"params": params, "batch_stats": stats}
    subject = Subject("online", self._encoder, variables)
    train, test = (
      normalise(
        extract(
          self._experiment.mesh,
          subject,
          source,
          self._experiment.evaluation_crop,
          batch_size=self._experiment.config.evaluation.batch_size,
        )
      )
      for source in self._sources
    )
    train_labels, test_labels = (
      labels[with_stand_ins(source, np.arange(len(labels)))]
      for source, labels in zip(self._sources, self._labels, strict=True)
    )
    neighbours = min(self._config.neighbours, len(train))
    (knn,) = knn_accuracies(
      self._experiment.mesh,
      train,
      train_labels,
      test,
      test_labels,
      num_classes=self._num_classes,
      settings=[(neighbours, self._config.temperature)],
    )
    head = fit_regularisers(
      self._experiment.mesh,
      SharedRows.put(self._experiment.mesh, train, train_labels),
      np.arange(len(train)),
      np.float32([self._config.regulariser]),
      num_classes=self._num_classes,
      max_iterations=self._config.iterations,
    )
    return {
      "knn_top1": knn,
      "linear_top1": head_accuracies(head, test, test_labels)[0],
      "seconds": time.perf_counter() - started,
    }


def online_probes(experiment: Experiment) -> OnlineProbes | None:
  """None if they are switched off, or there are no labels or no test images."""
  if not experiment.config.online.every_epochs:
    return None
  data = labelled_set("online", experiment.train, experiment.test, "the run's own")
  return None if data is None else OnlineProbes(experiment, data)


def _draw(num_images: int, at_most: int) -> np.ndarray:
  """Ids of the images looked at, the same in every run."""
  ids = np.random.default_rng(0).permutation(num_images)[:at_most]
  return np.sort(ids)
