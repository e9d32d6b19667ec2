"""Random resized crops of images that live on the device."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from clim_jax import rng, sharding
from clim_jax.data.array_crops import cut_crops
from clim_jax.method.batch import Batch


class Indices(NamedTuple):
  """Which images a batch shows, rows sharded."""

  anchors: jax.Array  # [B] int32
  positives: jax.Array | None  # the anchor itself where it has none, [B] int32
  key_anchors: jax.Array  # in the order of the keys, [B] int32
  key_positives: jax.Array | None
  has_positive: jax.Array  # [B] bool
  key_row: jax.Array
  query_row: jax.Array


def make_batch(images: jax.Array, indices: Indices, step: jax.Array) -> Batch:
  """Cuts the crops of a step; to be mapped over the axis "data".

  Args:
    images: all of them, the same on every device, [N, S, S, 3] uint8.
    indices: of this replica's rows.
    step: seeds the crops, [] int32.
  """
  count = len(indices.anchors)
  rows = sharding.row_offset(count) + jnp.arange(count)
  root = jax.random.fold_in(rng.stream(jax.random.key(0), "crops"), step)

  def view(name: str, ids: jax.Array) -> jax.Array:
    rngs = rng.per_row(rng.stream(root, name), rows)
    side = images.shape[1]
    boxes = jax.vmap(lambda key: random_box(key, side))(rngs)
    return cut_crops(images, ids, boxes, side)

  selects = indices.positives is not None
  return Batch(
    query=(view("query", indices.anchors),),
    key=view("key", indices.key_anchors),
    positive_query=(view("positive", indices.positives),) if selects else (),
    positive_key=view("positive_key", indices.key_positives) if selects else None,
    has_positive=indices.has_positive,
    key_row=indices.key_row,
    query_row=indices.query_row,
  )


def random_box(crop_rng: jax.Array, side: int) -> jax.Array:
  """8% to 100% of the area of an image, (top, left, height, width), [4] int32.

  As torchvision's, but a box that is too long is cut where that draws another.
  """
  share, ratio, top, left = jax.random.uniform(crop_rng, (4,))
  area = side * side * (0.08 + 0.92 * share)
  aspect = jnp.exp((2 * ratio - 1) * jnp.log(4 / 3))
  height = jnp.clip(jnp.round(jnp.sqrt(area / aspect)), 1, side)
  width = jnp.clip(jnp.round(jnp.sqrt(area * aspect)), 1, side)
  corner = jnp.floor(top * (side - height + 1)), jnp.floor(left * (side - width + 1))
  return jnp.stack([*corner, height, width]).astype(jnp.int32)
