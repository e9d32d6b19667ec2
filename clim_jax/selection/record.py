"""What a refresh found, kept in a file to be looked at.

Of a large set the neighbours of a sample alone: a file stays within some megabytes.
"""

import zipfile
from typing import NamedTuple

import numpy as np
from etils import epath

from clim_jax.selection.refresh import RowsOnHost
from clim_jax.whole import written_whole

FILE = "neighbours.npz"  # in a workdir, of the newest refresh
_AT_MOST = 8192  # anchors


class Record(NamedTuple):
  """Rows of `refresh.RowsOnHost`; empty where the rule needs none."""

  epoch: np.ndarray  # before which it was, [] int64
  anchors: np.ndarray  # image ids, increasing, [A] int64
  neighbours: np.ndarray  # of the anchors, nearest first, [A, M] int32
  kept: np.ndarray  # those that are positives, [A, M] bool
  assignment: np.ndarray  # cluster of every image, [N] int32
  closeness: np.ndarray  # cosine of every image to its center, [N] float32


def make_record(epoch: int, found: RowsOnHost, *, num_images: int) -> Record:
  """The record of a refresh; its anchors are the same at every refresh of a run."""
  drawn = np.random.default_rng(0).permutation(num_images)[:_AT_MOST]
  anchors, nothing = np.sort(drawn), np.zeros((len(drawn), 0), np.int32)
  has_neighbours = found.neighbours is not None
  has_clusters = found.assignment is not None
  return Record(
    np.int64(epoch),
    anchors,
    found.neighbours[anchors] if has_neighbours else nothing,
    found.kept[anchors] if has_neighbours else nothing.astype(bool),
    found.assignment if has_clusters else np.zeros(0, np.int32),
    found.closeness if has_clusters else np.zeros(0, np.float32),
  )


def save(record: Record, path: epath.Path) -> None:
  with written_whole(path) as beside, beside.open("wb") as file:
    np.savez_compressed(file, **record._asdict())


def load(path: epath.Path) -> Record | None:
  """The record of a file; None if there is none, or it is damaged."""
  try:
    with path.open("rb") as file, np.load(file) as arrays:
      return Record(**{name: arrays[name] for name in Record._fields})
  except (OSError, KeyError, ValueError, zipfile.BadZipFile):
    return None
