"""Nearest neighbours on GPUs: a block of queries at a time against the whole bank.

A GPU launches every operation of a loop anew. The visits of `hits`, some hundred small
operations a pair of tiles, would take it many times as long as the products. Here a
block of queries takes few and large operations: one product, and the best of each row
by its best groups.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from clim_jax import sharding
from clim_jax.selection.search.best import NO_NEIGHBOUR
from clim_jax.selection.search.blocks import map_row_blocks
from clim_jax.selection.search.scoring import slack_of
from clim_jax.sharding import AXIS, row_offset

_AT_ONCE = 2**30  # similarities, or values of candidates, of a block: 4 GiB in float32
_MOST_ROWS = 8192
_CANDIDATES = 128  # of a bfloat16 product, for each row; at least two for a neighbour
_SORTED = 2048  # a row so short is sorted at once


def blocked_neighbours(
  mesh: Mesh,
  bank: jax.Array,
  *,
  num_images: int,
  num_neighbours: int,
  scoring: str,
) -> jax.Array:
  """As `exact.exact_neighbours`; each device holds the whole bank meanwhile."""
  return _search_fn(mesh, num_images, num_neighbours, scoring)(bank)


@functools.cache
def _search_fn(mesh: Mesh, num_images: int, num_neighbours: int, scoring: str):  # noqa: ANN202
  def search(bank: jax.Array) -> jax.Array:
    own_ids = row_offset(bank.shape[0]) + jnp.arange(bank.shape[0], dtype=jnp.int32)
    everything = lax.all_gather(bank, AXIS, tiled=True)
    # A whole number of groups; missing neighbours are found in rows that do not exist.
    filling = -max(len(everything), num_neighbours) % _SORTED
    filling += max(0, num_neighbours - len(everything))
    everything = jnp.pad(everything, ((0, filling), (0, 0)))
    by_float32 = functools.partial(_in_float32, everything, num_images, num_neighbours)
    if scoring == "bfloat16":
      coarse = everything.astype(jnp.bfloat16)
      # The product is rounded to bfloat16, too: by half a unit in its last place.
      slack = slack_of(bank, scoring) + 2.0**-9
      by_bfloat16 = functools.partial(
        _in_bfloat16, everything, coarse, slack, num_images, num_neighbours
      )

      def of_block(block: tuple[jax.Array, jax.Array]) -> jax.Array:
        found, is_certain = by_bfloat16(block)
        return lax.cond(is_certain, lambda _: found, by_float32, block)

    else:
      of_block = by_float32
    each = max(len(everything), _candidates(num_neighbours) * bank.shape[1])
    rows = max(1, min(_MOST_ROWS, _AT_ONCE // each))
    rows = 1 << rows.bit_length() - 1  # products prefer powers of two
    return map_row_blocks(of_block, (bank, own_ids), rows)

  return sharding.spmd(search, mesh, in_specs=sharding.ROWS, out_specs=sharding.ROWS)


def _candidates(num_neighbours: int) -> int:
  return max(_CANDIDATES, 2 * num_neighbours)


def _in_float32(
  bank: jax.Array,
  num_images: int,
  num_neighbours: int,
  block: tuple[jax.Array, jax.Array],
) -> jax.Array:
  """Neighbours of a block of rows and their ids, [R, M] int32."""
  rows, own = block
  similarity = jnp.dot(rows, bank.T, precision=lax.Precision.HIGHEST)
  similarity = _of_others(similarity, own, num_images)
  found = best_of_each(similarity, num_neighbours)
  exists = jnp.take_along_axis(similarity, found, axis=1) > -jnp.inf
  return jnp.where(exists, found, NO_NEIGHBOUR)


def _in_bfloat16(
  bank: jax.Array,
  coarse: jax.Array,
  slack: jax.Array,
  num_images: int,
  num_neighbours: int,
  block: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array]:
  """The same from candidates by bfloat16, and whether they must hold all, [] bool.

  Whoever is among the nearest comes within twice the slack of the last of as many
  coarse ones. So if the last candidate lies below that, none was missed.
  """
  rows, own = block
  similarity = jnp.dot(
    rows.astype(jnp.bfloat16), coarse.T, preferred_element_type=jnp.bfloat16
  )
  similarity = _of_others(similarity, own, num_images)
  count = min(_candidates(num_neighbours), len(bank))
  found = best_of_each(similarity, count)
  values = jnp.take_along_axis(similarity, found, axis=1).astype(jnp.float32)
  last = values[:, -1]
  needed = values[:, num_neighbours - 1] - 2 * slack
  holds_all = (last < needed) | (last == -jnp.inf) | (count == len(bank))
  # By id, so that equal cosines stay in this order.
  found = jnp.sort(found, axis=1)
  exact = _cosines_to(bank, rows, found)
  exact = jnp.where((found < num_images) & (found != own[:, None]), exact, -jnp.inf)
  order = lax.top_k(exact, num_neighbours)[1]
  exists = jnp.take_along_axis(exact, order, axis=1) > -jnp.inf
  found = jnp.take_along_axis(found, order, axis=1)
  return jnp.where(exists, found, NO_NEIGHBOUR), holds_all.all()


def _of_others(similarity: jax.Array, own: jax.Array, num_images: int) -> jax.Array:
  """−∞ for the row itself and for padding; −0 is 0."""
  ids = jnp.arange(similarity.shape[1])
  others = (ids < num_images)[None] & (ids[None] != own[:, None])
  similarity = jnp.where(similarity == 0, jnp.zeros_like(similarity), similarity)
  return jnp.where(others, similarity, jnp.array(-jnp.inf, similarity.dtype))


def _cosines_to(bank: jax.Array, rows: jax.Array, found: jax.Array) -> jax.Array:
  """Of each row [R, D] to its candidates [R, K], in float32; −0 is 0."""
  exact = (rows[:, None] * bank[found]).sum(axis=2)
  return jnp.where(exact == 0, 0.0, exact)


def best_of_each(values: jax.Array, count: int) -> jax.Array:
  """Columns of the largest values of each row, [R, N] → [R, count] int32.

  Best first, of equal ones the first. The best `count` lie in the `count` groups of
  neighbouring columns whose maxima are the best, so few values are ever sorted.
  """
  total = values.shape[1]
  group = 1 << max(0, round(math.log2(max(1, total / count)) / 2))
  if total <= _SORTED or group == 1:
    return lax.top_k(values, count)[1]
  nothing = jnp.array(-jnp.inf, values.dtype)
  padded = jnp.pad(values, ((0, 0), (0, -total % group)), constant_values=nothing)
  maxima = padded.reshape(len(values), -1, group).max(axis=2)
  groups = jnp.sort(best_of_each(maxima, count), axis=1)
  columns = (groups[..., None] * group + jnp.arange(group)[None, None]).reshape(
    len(values), -1
  )
  within = jnp.take_along_axis(padded, columns, axis=1)
  return jnp.take_along_axis(columns, best_of_each(within, count), axis=1)
