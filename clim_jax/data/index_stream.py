"""Which images each step shows: a pure function of (seed, epoch, step).

Resuming is starting at a step, and any number of hosts sees the same batches.
"""

import functools
from typing import NamedTuple

import numpy as np

from clim_jax.data.crops import UNIFORMS
from clim_jax.selection.positives import Positives


class StepIndices(NamedTuple):
  """One global batch, before any pixel is read."""

  anchors: np.ndarray  # image ids, [B] int64
  positives: np.ndarray  # image ids, the anchor's own where it has none, [B] int64
  has_positive: np.ndarray  # [B] bool
  key_order: np.ndarray  # row r of the key batch shows anchor key_order[r], [B] int64
  uniforms: np.ndarray  # numbers for the crops, [B, crops, UNIFORMS] float32

  def places(self, rows: slice) -> dict[str, np.ndarray]:
    """What a `Batch` of these rows has besides crops."""
    return {
      "has_positive": self.has_positive[rows],
      "key_row": np.argsort(self.key_order)[rows].astype(np.int32),
      "query_row": self.key_order[rows].astype(np.int32),
    }


class IndexStream(NamedTuple):
  """The batches of a run, without replacement within an epoch, remainder dropped."""

  seed: int
  num_images: int
  batch_size: int
  num_crops: int  # random crops that a row needs

  @property
  def steps_per_epoch(self) -> int:
    return self.num_images // self.batch_size

  def step(self, step: int, positives: Positives | None) -> StepIndices:
    """The batch of a step, counted from 0 through all epochs."""
    epoch, within = divmod(step, self.steps_per_epoch)
    order = _epoch_order(self.seed, epoch, self.num_images)
    anchors = order[within * self.batch_size :][: self.batch_size]
    rng = _rng(self.seed, "step", step)
    key_order = rng.permutation(self.batch_size)
    uniforms = rng.random((self.batch_size, self.num_crops, UNIFORMS), np.float32)
    drawn, has_positive = anchors, np.zeros(self.batch_size, bool)
    if positives is not None:
      # A stream of its own: with and without positives, the crops are the same.
      draw_rng = _rng(self.seed, "positives", step)
      drawn = positives.draw(anchors, draw_rng.random(self.batch_size))
      has_positive = positives.count[anchors] > 0
    return StepIndices(anchors, drawn, has_positive, key_order, uniforms)


@functools.lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, num_images: int) -> np.ndarray:
  return _rng(seed, "order", epoch).permutation(num_images)


def _rng(seed: int, name: str, counter: int) -> np.random.Generator:
  entropy = (seed, *name.encode(), counter)
  return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))
