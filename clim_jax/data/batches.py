"""Batches of crops on the devices, by whichever way suits the images.

Crops of arrays are cut on the devices, where the images lie, in whole; those of encoded
images, and of arrays too large for that, by TensorFlow on the host, in `pipeline`.
"""

import collections
import concurrent.futures
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from clim_jax import sharding
from clim_jax.data.array_crops import UncutBatch, cut, cut_crops, uncut_rows
from clim_jax.data.crops import UNIFORMS, CenterCrop, Crop
from clim_jax.data.cuts import TrainCuts, ViewPlan
from clim_jax.data.index_stream import IndexStream
from clim_jax.data.place import is_on_device
from clim_jax.data.source import Source
from clim_jax.method.batch import Batch
from clim_jax.selection.positives import Positives

T = TypeVar("T")
_AHEAD = 2  # batches made before they are asked for


def train_batches(
  mesh: Mesh,
  source: Source,
  stream: IndexStream,
  plan: ViewPlan,
  *,
  first_step: int,
  last_step: int,
  positives: Positives | None,
) -> Iterator[Batch | UncutBatch]:
  """What steps first_step … last_step − 1 are given, on the devices.

  Args:
    mesh: devices, which share out the rows.
    source: the training images.
    stream: which images each step shows.
    plan: which crops are cut.
    positives: the table to draw from; None gives batches of plain MoCo v2.

  Raises:
    BadImageError: an image cannot be decoded and is not to be skipped; names it.
  """
  rows = sharding.process_rows(mesh, stream.batch_size)
  if not is_on_device(source, mesh):
    from clim_jax.data import pipeline  # TensorFlow, which arrays do without

    for batch in pipeline.train_batches(
      source,
      stream,
      plan,
      first_step=first_step,
      last_step=last_step,
      positives=positives,
      rows=rows,
    ):
      yield sharding.put_rows(mesh, batch)
    return
  cuts, images = TrainCuts(plan, positives is not None, whole=False), source.on(mesh)
  _, height, width, _ = images.shape

  def make(step: int) -> UncutBatch:
    indices = stream.step(step, positives)
    uncut = uncut_rows(cuts, indices, rows, height=height, width=width)
    return UncutBatch(images, sharding.put_rows(mesh, uncut))

  yield from _ahead(map(make, range(first_step, last_step)))


def spec_of(source: Source, mesh: Mesh) -> PartitionSpec | UncutBatch:
  """How what `train_batches` gives lies on the devices."""
  if not is_on_device(source, mesh):
    return sharding.ROWS
  return UncutBatch(sharding.REPLICATED, sharding.ROWS)


def as_cut(batch: Batch | UncutBatch) -> Batch:
  """The crops of a batch, within a step; to be mapped over the mesh."""
  return cut(batch) if isinstance(batch, UncutBatch) else batch


def evaluation_batches(
  mesh: Mesh, source: Source, ids: np.ndarray, crop: CenterCrop
) -> Iterator[jax.Array]:
  """The evaluation crops of `ids`, [turns, B], rows sharded, [B, S, S, 3] uint8."""
  local = ids[:, sharding.process_rows(mesh, ids.shape[1])]
  nothing = np.zeros((local.shape[1], UNIFORMS), np.float32)
  turns = ((turn, nothing) for turn in local)
  return crop_batches(mesh, source, turns, crop, len(nothing))


def crop_batches(
  mesh: Mesh,
  source: Source,
  turns: Iterable[tuple[np.ndarray, np.ndarray]],
  crop: Crop,
  local_rows: int,
) -> Iterator[jax.Array]:
  """One crop of each image, rows sharded, [B, S, S, 3] uint8 a turn.

  Args:
    mesh: devices, which share out the rows.
    source: the images.
    turns: of this process's rows the image ids, [b] int64, and the numbers that a
      random crop consumes, [b, UNIFORMS] float32.
    crop: what to cut.
    local_rows: b.
  """
  if not is_on_device(source, mesh):
    from clim_jax.data import pipeline

    for images in pipeline.crop_batches(source, turns, crop, local_rows):
      yield sharding.put_rows(mesh, images)
    return
  images, cut_rows = source.on(mesh), _cutter(mesh, crop.side)
  _, height, width, _ = images.shape
  for ids, uniforms in turns:
    boxes = crop.boxes(uniforms, height, width)
    yield cut_rows(images, *sharding.put_rows(mesh, (ids.astype(np.int32), boxes)))


@functools.cache
def _cutter(mesh: Mesh, side: int) -> Callable[..., jax.Array]:
  rows = sharding.ROWS
  return sharding.spmd(
    functools.partial(cut_crops, side=side),
    mesh,
    in_specs=(sharding.REPLICATED, rows, rows),
    out_specs=rows,
  )


def _ahead(items: Iterator[T]) -> Iterator[T]:
  """The same, made by a thread while others are in use."""
  end = object()
  with concurrent.futures.ThreadPoolExecutor(1) as thread:
    made = collections.deque(thread.submit(next, items, end) for _ in range(_AHEAD))
    while (item := made.popleft().result()) is not end:
      made.append(thread.submit(next, items, end))
      yield item
