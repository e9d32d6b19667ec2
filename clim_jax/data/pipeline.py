"""tf.data pipelines from image ids to batches of crops.

Arrays in memory are cropped a batch at a time. Encoded images are fetched a batch
at a time, then decoded and cropped in parallel, one by one.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from clim_jax.batch import Batch
from clim_jax.data.crops import (
  UNIFORMS,
  CenterCrop,
  Crop,
  RandomCrop,
  decode_crops,
  resize_crops,
)
from clim_jax.data.index_stream import IndexStream, StepIndices
from clim_jax.data.sources import ArraySource, Source
from clim_jax.selection.positives import Positives

# JAX owns the accelerators; TensorFlow only reads and crops.
tf.config.set_visible_devices([], "GPU")

_PREFETCH = 2  # batches ready ahead of the step


class ViewPlan(NamedTuple):
  """The crops of a row and what they are for."""

  crops: tuple[RandomCrop, ...]  # one for each side, largest first
  positive_queries: bool  # mixing needs crops of the positive to mix in
  positive_keys: bool

  @property
  def num_crops(self) -> int:
    """Random crops of a row; the same with and without positives."""
    return 2 * (len(self.crops) + 1)


def train_batches(
  source: Source,
  stream: IndexStream,
  plan: ViewPlan,
  *,
  first_step: int,
  last_step: int,
  positives: Positives | None,
  rows: slice,
) -> Iterator[Batch]:
  """This process's rows of the batches of steps first_step … last_step − 1.

  Args:
    source: the training images.
    stream: which images each step shows.
    plan: which crops are cut.
    positives: the table to draw from; None gives batches of plain MoCo v2.
    rows: this process's rows of each global batch.

  Raises:
    BadImageError: an image cannot be decoded; names it.
  """
  sides = len(plan.crops)
  groups = [plan.crops, plan.crops[:1]]  # anchors as queries, anchors as keys
  slots = list(range(sides + 1))
  positive_queries = positives is not None and plan.positive_queries
  positive_keys = positives is not None and plan.positive_keys
  if positive_queries:
    groups.append(plan.crops)
    slots += range(sides + 1, 2 * sides + 1)
  if positive_keys:
    groups.append(plan.crops[:1])
    slots.append(2 * sides + 1)

  def image_ids(step: StepIndices) -> np.ndarray:
    """[B, groups]"""
    ids = [step.anchors, step.anchors[step.key_order]]
    if positive_queries:
      ids.append(step.positives)
    if positive_keys:
      ids.append(step.positives[step.key_order])
    return np.stack(ids, axis=1)

  in_flight: collections.deque[StepIndices] = collections.deque()

  def elements() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for step in range(first_step, last_step):
      indices = stream.step(step, positives)
      in_flight.append(indices)
      yield image_ids(indices)[rows], indices.uniforms[rows][:, slots]

  batches = _crop_batches(source, elements(), groups, rows.stop - rows.start)
  for crops in batches:
    indices = in_flight.popleft()
    key_ids = indices.anchors[indices.key_order]
    key_row = np.argsort(indices.key_order)
    yield Batch(
      query=crops[0],
      key=crops[1][0],
      positive_query=crops[2] if positive_queries else (),
      positive_key=crops[-1][0] if positive_keys else None,
      has_positive=indices.has_positive[rows],
      key_ids=key_ids[rows].astype(np.int32),
      key_row=key_row[rows].astype(np.int32),
      query_row=indices.key_order[rows].astype(np.int32),
    )


def evaluation_batches(
  source: Source, ids: np.ndarray, crop: CenterCrop, rows: slice
) -> Iterator[np.ndarray]:
  """This process's rows of the evaluation crops of `ids`, [turns, B] → [b, S, S, 3]."""
  local = ids[:, rows]
  nothing = np.zeros((local.shape[1], 1, UNIFORMS), np.float32)
  elements = ((turn[:, None], nothing) for turn in local)
  for ((images,),) in _crop_batches(source, elements, [(crop,)], local.shape[1]):
    yield images


def _crop_batches(
  source: Source,
  elements: Iterator[tuple[np.ndarray, np.ndarray]],
  groups: Sequence[tuple[Crop, ...]],
  batch_size: int,
) -> Iterator[list[tuple[np.ndarray, ...]]]:
  """Crops for (ids [b, groups], uniforms [b, crops, UNIFORMS]) of each batch."""
  # Ids of the batches in flight, to name an image that turns out to be broken.
  in_flight: collections.deque[np.ndarray] = collections.deque()

  def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for ids, uniforms in elements:
      in_flight.append(ids)
      yield ids, uniforms

  crops = sum(map(len, groups))
  signature = (
    tf.TensorSpec((batch_size, len(groups)), tf.int64),
    tf.TensorSpec((batch_size, crops, UNIFORMS), tf.float32),
  )
  dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
  if isinstance(source, ArraySource):
    dataset = dataset.map(
      _array_crops(source, groups), num_parallel_calls=tf.data.AUTOTUNE
    )
  else:
    fetch = lambda ids, uniforms: (source.fetch(ids), uniforms)  # noqa: E731
    dataset = dataset.map(fetch, num_parallel_calls=2).unbatch()
    dataset = dataset.map(
      _encoded_crops(source.load, groups), num_parallel_calls=tf.data.AUTOTUNE
    ).batch(batch_size, drop_remainder=True)
  iterator = dataset.prefetch(_PREFETCH).as_numpy_iterator()
  while True:
    try:
      batch = next(iterator)
    except StopIteration:
      return
    except tf.errors.OpError:
      # None is in flight if it was the ids themselves that could not be had.
      if in_flight and not isinstance(source, ArraySource):
        for image in np.unique(in_flight[0]):
          source.check(int(image))
      raise
    in_flight.popleft()
    yield list(batch)


def _array_crops(
  source: ArraySource, groups: Sequence[tuple[Crop, ...]]
) -> Callable[..., tuple]:
  # In memory once, outside the graph, which may not hold more than 2 GiB.
  images = tf.constant(source.images)
  height, width = source.images.shape[1:3]

  def crop(ids: tf.Tensor, uniforms: tf.Tensor) -> tuple:
    size = tf.ones_like(ids[:, 0], tf.int32)
    out, slot = [], 0
    for group, crops in enumerate(groups):
      chosen = tf.gather(images, ids[:, group])
      square = []
      for cut in crops:
        boxes = cut.boxes(uniforms[:, slot], size * height, size * width)
        square.append(resize_crops(chosen, boxes, cut.side))
        slot += 1
      out.append(tuple(square))
    return tuple(out)

  return crop


def _encoded_crops(
  load: Callable[[tf.Tensor], tf.Tensor], groups: Sequence[tuple[Crop, ...]]
) -> Callable[..., tuple]:
  def crop(strings: tf.Tensor, uniforms: tf.Tensor) -> tuple:
    out, slot = [], 0
    for group, crops in enumerate(groups):
      numbers = uniforms[slot : slot + len(crops)]
      out.append(decode_crops(load(strings[group]), crops, numbers))
      slot += len(crops)
    return tuple(out)

  return crop
