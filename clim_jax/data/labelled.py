"""Batches of labelled images for probes: a function of (seed, step)."""

import collections
import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from clim_jax import sharding
from clim_jax.data.batches import crop_batches
from clim_jax.data.crops import UNIFORMS, RandomCrop
from clim_jax.data.source import Source, with_stand_ins


class LabelledBatch(NamedTuple):
  """A batch; NumPy's are this process's rows, JAX's those of all."""

  images: np.ndarray | jax.Array  # [b, S, S, 3] uint8
  labels: np.ndarray  # [b] int32
  flips: np.ndarray  # whether to mirror an image, [b] bool


class LabelledStream(NamedTuple):
  """Which images each step shows: passes in random order, one after another."""

  ids: np.ndarray  # of the images that may be shown, [n] int64
  batch_size: int  # over all processes
  seed: int

  @property
  def steps_per_epoch(self) -> int:
    return max(1, len(self.ids) // self.batch_size)

  def step(self, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids of a step, [B] int64, and numbers for each row, [B, UNIFORMS + 1] float32.

    The numbers are for the crop and the flip. A batch may run on into the next pass.
    """
    places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
    passes, within = np.divmod(places, len(self.ids))
    rows = np.empty_like(places)
    for number in np.unique(passes):
      here = passes == number
      rows[here] = _pass_order(self.seed, int(number), len(self.ids))[within[here]]
    uniforms = np.random.default_rng((self.seed, 1, step)).random(
      (self.batch_size, UNIFORMS + 1), np.float32
    )
    return self.ids[rows], uniforms


@functools.lru_cache(maxsize=2)
def _pass_order(seed: int, number: int, num_images: int) -> np.ndarray:
  return np.random.default_rng((seed, 0, number)).permutation(num_images)


def batch_size_for(num_images: int, asked: int, devices: int) -> int:
  """At most `asked`, and few images make one batch: they are repeated to fill it.

  Args:
    num_images: that may be shown.
    asked: a multiple of the devices.
    devices: which share out the batch.
  """
  return min(asked, -(-num_images // devices) * devices)


def labelled_batches(
  mesh: Mesh,
  source: Source,
  labels: np.ndarray,
  stream: LabelledStream,
  crop: RandomCrop,
  *,
  steps: int,
  flip_probability: float,
) -> Iterator[LabelledBatch]:
  """The batches of the first steps; images lie on the devices already.

  Args:
    mesh: devices, which share out the rows.
    source: the images.
    labels: of all its images, [N] int.
    stream: which of them each step shows.
    crop: cut from each.
    steps: how many batches.
    flip_probability: of mirroring an image.
  """
  rows = sharding.process_rows(mesh, stream.batch_size)
  in_flight: collections.deque[tuple[np.ndarray, np.ndarray]] = collections.deque()

  def turns() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for step in range(steps):
      ids, uniforms = (part[rows] for part in stream.step(step))
      in_flight.append((ids, uniforms[:, UNIFORMS] < flip_probability))
      yield ids, uniforms[:, :UNIFORMS]

  local_rows = rows.stop - rows.start
  for images in crop_batches(mesh, source, turns(), crop, local_rows):
    ids, flips = in_flight.popleft()
    # Now that they are decoded: an image seen in place of a bad one has its own label.
    seen = labels[with_stand_ins(source, ids)]
    yield LabelledBatch(images, seen.astype(np.int32), flips)
