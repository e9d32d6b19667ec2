"""Crops of arrays, cut on the devices: two matrix products each, down and across.

The filter is that of `resize`: bilinear with antialiasing, which is separable.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from clim_jax.data.crops import ROUNDING
from clim_jax.data.cuts import TrainCuts
from clim_jax.data.index_stream import StepIndices
from clim_jax.method.batch import Batch

Array = Any  # NumPy on the host, jax.Array on the device


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Uncut:
  """The rows of a batch before any pixel is read."""

  ids: Array  # of the images of each row, [b, images of a row] int32
  boxes: Array  # [b, cuts, 4] int32
  has_positive: Array  # these three as in `Batch`
  key_row: Array
  query_row: Array
  cuts: TrainCuts = field(metadata={"static": True})


class UncutBatch(NamedTuple):
  """What a step is given that cuts its crops itself."""

  images: jax.Array  # all there are, the same on every device, [N, H, W, 3] uint8
  rows: Uncut


def uncut_rows(
  cuts: TrainCuts, indices: StepIndices, rows: slice, *, height: int, width: int
) -> Uncut:
  """These rows of a step's global batch; `height` and `width` are those of images."""
  element = cuts.element(indices, rows)
  boxes = [
    cut.crop.boxes(element.uniforms[:, slot], height, width)
    for slot, cut in enumerate(cuts.cuts)
  ]
  return Uncut(
    ids=element.ids.astype(np.int32),
    boxes=np.stack(boxes, axis=1),
    **indices.places(rows),
    cuts=cuts,
  )


@jax.named_scope("crops")  # so that profiles can tell their cost
def cut(batch: UncutBatch) -> Batch:
  """Cuts all crops of this replica's rows."""
  images, rows = batch
  crops = _all_crops(images, rows)
  # What comes after is compiled as if it were given crops.
  crops = lax.optimization_barrier(crops)
  return Batch(
    **rows.cuts.fields(crops),
    has_positive=rows.has_positive,
    key_row=rows.key_row,
    query_row=rows.query_row,
  )


def _all_crops(images: jax.Array, rows: Uncut) -> list[jax.Array]:
  """In the order of the cuts; those of one side are one batch."""
  cuts = rows.cuts.cuts
  crops: list[jax.Array] = [None] * len(cuts)
  for side in dict.fromkeys(cut.crop.side for cut in cuts):
    slots = [slot for slot, cut in enumerate(cuts) if cut.crop.side == side]
    ids = jnp.concatenate([rows.ids[:, cuts[slot].image] for slot in slots])
    boxes = jnp.concatenate([rows.boxes[:, slot] for slot in slots])
    of_side = cut_crops(images, ids, boxes, side)
    for slot, crop in zip(slots, jnp.split(of_side, len(slots)), strict=True):
      crops[slot] = crop
  return crops


def cut_crops(
  images: jax.Array, ids: jax.Array, boxes: jax.Array, side: int
) -> jax.Array:
  """One crop of each of some images.

  Args:
    images: [N, H, W, 3] uint8.
    ids: into them, [b] int32.
    boxes: (top, left, height, width), [b, 4] int32.
    side: S.

  Returns:
    [b, S, S, 3] uint8.
  """
  rows = _resize_matrix(boxes[:, 0], boxes[:, 2], images.shape[1], side)
  columns = _resize_matrix(boxes[:, 1], boxes[:, 3], images.shape[2], side)
  pixels = images[ids].astype(jnp.float32)
  # Less would move some pixels by a level: TF32 and bfloat16 hold 11 and 8 bits.
  exact = lax.Precision.HIGHEST
  pixels = jnp.einsum("bsh,bhwc->bswc", rows, pixels, precision=exact)
  pixels = jnp.einsum("btw,bswc->bstc", columns, pixels, precision=exact)
  return jnp.clip(pixels + ROUNDING, 0.0, 255.0).astype(jnp.uint8)


def _resize_matrix(
  start: jax.Array, extent: jax.Array, size: int, side: int
) -> jax.Array:
  """Weights of a triangle filter from `size` pixels to `side`, [b, side, size]."""
  start, extent = (x.astype(jnp.float32)[:, None, None] for x in (start, extent))
  step = extent / side
  center = start + (jnp.arange(side, dtype=jnp.float32)[None, :, None] + 0.5) * step
  pixel = jnp.arange(size, dtype=jnp.float32)[None, None, :] + 0.5
  weight = jnp.maximum(1.0 - jnp.abs(pixel - center) / jnp.maximum(step, 1.0), 0.0)
  inside = (pixel > start) & (pixel < start + extent)
  weight = jnp.where(inside, weight, 0.0)
  return weight / jnp.sum(weight, axis=-1, keepdims=True)
