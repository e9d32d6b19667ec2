"""Images drawn from a run's, with their features."""

from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from clim_jax.data.source import ArraySource, Source
from clim_jax.evaluate.features import extract, normalise
from clim_jax.experiment import images
from clim_jax.experiment.experiment import evaluation_crop
from clim_jax.experiment.runs import Trained


class Sample(NamedTuple):
  """The images on the map."""

  is_train: np.ndarray  # [P] bool; the others are test images
  ids: np.ndarray  # in their part, [P] int64
  labels: np.ndarray  # [P] int64; −1 where an image has none
  features: np.ndarray  # unit-norm, [P, F] float32

  def part(self, row: int) -> str:
    """ "train" or "test"."""
    return "train" if self.is_train[row] else "test"


def draw_sample(
  trained: Trained, mesh: Mesh, train: Source, test: Source | None
) -> Sample:
  """Draws images and embeds them by the run's encoder; a third as many of the test."""
  at_most, parts = trained.config.report.images, []
  for source, most in ((train, at_most), (test, at_most // 3)):
    if source is None or not most:
      continue
    ids = np.sort(np.random.default_rng(0).permutation(source.num_images)[:most])
    features = extract(
      mesh,
      trained.subject,
      source if len(ids) == source.num_images else source.subset(ids),
      evaluation_crop(trained.config),
      batch_size=trained.config.evaluation.batch_size,
    )
    labels = source.labels()
    own = np.full(len(ids), -1) if labels is None else labels[ids]
    is_train = np.full(len(ids), source is train)
    parts.append((is_train, ids, own, normalise(features)))
  return Sample(*map(np.concatenate, zip(*parts, strict=True)))


def class_names(train: Source) -> dict[int, str]:
  """By label, of a folder whose first folders are the classes."""
  labels = train.labels()
  if labels is None or isinstance(train, ArraySource):
    return {}
  first = dict(zip(*np.unique(labels, return_index=True), strict=True))
  if len(first) < 2:
    return {}
  names = images.list_images(train)
  return {
    int(label): names[image].split("/")[0]
    for label, image in first.items()
    if label >= 0 and "/" in names[image]
  }
