"""Exact nearest neighbours on a row-sharded bank: a ring of symmetric tiles.

Every similarity serves two images, so each pair of tiles is multiplied once: by
columns for the images of one tile, by rows for those of the other. Between devices
the shards travel half-way around a ring, and take along the best lists of their own
images, which go home at the end.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from clim_jax.selection import best as best_lists
from clim_jax.selection import hits
from clim_jax.selection.best import NO_NEIGHBOUR, Best
from clim_jax.sharding import AXIS, row_offset

__all__ = ["NO_NEIGHBOUR", "nearest_neighbours"]

# Rows of a tile: on a CPU its similarities, 16 MiB, should stay in the cache; an
# accelerator wants few and large products.
_TILE_ON_CPU = 2048
_TILE_ON_ACCELERATOR = 8192


class _Shard(NamedTuple):
  tiles: jax.Array  # rows, filled up with zeros to whole tiles, [T, b, D]
  first_id: jax.Array  # id of the first row, [] int32
  rows: int  # of the shard; later ones are filling
  num_images: int  # ids from here on are padding

  def first(self, tile: jax.Array) -> jax.Array:
    """Id of the first row of a tile."""
    return self.first_id + tile * self.tiles.shape[1]

  def exist(self, tile: jax.Array) -> jax.Array:
    """How many rows of a tile are images; they come first."""
    left = jnp.minimum(self.rows, self.num_images - self.first_id)
    return left - tile * self.tiles.shape[1]


def nearest_neighbours(
  bank: jax.Array, *, num_images: int, num_neighbours: int
) -> jax.Array:
  """Ids of the most similar other rows; to be mapped over the axis "data".

  Equal similarities are ordered by id, whatever the number of devices.

  Args:
    bank: this replica's rows, unit-norm, [N_pad / devices, D] float32.
    num_images: N; global rows from N on are padding, never a neighbour.
    num_neighbours: M.

  Returns:
    Ids into the bank, nearest first, [N_pad / devices, M] int32; `NO_NEIGHBOUR`
    where fewer than M other images exist.
  """
  rows = bank.shape[0]
  mine = _Shard(_tiles(bank), row_offset(rows), rows, num_images)
  count = mine.tiles.shape[0]
  every_tile = jnp.arange(count)

  floors = lax.map(partial(_floor, mine, num_neighbours), every_tile)
  lists = jax.vmap(partial(best_lists.empty, count=num_neighbours))(floors)
  upper = np.array([(i, j) for i in range(count) for j in range(i, count)], np.int32)
  lists = _sweep(mine, mine, lists, upper, 0, len(upper))
  if lax.axis_size(AXIS) > 1:
    lists = _ring(mine, lists)
  lists = lax.map(best_lists.ordered, lists)
  return lists.ids.transpose(0, 2, 1).reshape(-1, num_neighbours)[:rows]


def _tiles(bank: jax.Array) -> jax.Array:
  """The rows in equal tiles, with as little filling as may be, [T, b, D]."""
  rows, dim = bank.shape
  on_cpu = jax.default_backend() == "cpu"
  count = -(-rows // (_TILE_ON_CPU if on_cpu else _TILE_ON_ACCELERATOR))
  tile = -(-rows // (count * hits.WORD)) * hits.WORD
  return jnp.pad(bank, ((0, count * tile - rows), (0, 0))).reshape(count, tile, dim)


def _similarity(rows: jax.Array, columns: jax.Array) -> jax.Array:
  return jnp.dot(rows, columns.T, precision=lax.Precision.HIGHEST)


def _floor(mine: _Shard, num_neighbours: int, tile: jax.Array) -> jax.Array:
  """What at least M rows of its own tile reach for each row of a tile, [b].

  The tile is cut into groups. If M groups have a maximum of at least x, M rows
  reach x; bisection finds such an x, for which few more than M rows do.
  """
  rows = mine.tiles[tile]
  size = rows.shape[0]
  group = 1
  while group < hits.WORD and 8 * group * num_neighbours <= size:
    group *= 2
  exist = jnp.arange(size) < mine.exist(tile)
  others = exist[None] & ~jnp.eye(size, dtype=bool)
  similarity = jnp.where(others, _similarity(rows, rows), best_lists.NOTHING)
  maxima = similarity.reshape(size, size // group, group).max(axis=2)

  def halve(_: jax.Array, bounds: tuple[jax.Array, jax.Array]) -> tuple:
    low, high = bounds
    middle = (low + high) / 2
    enough = (maxima >= middle[:, None]).sum(axis=1) >= num_neighbours
    return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

  low = jnp.full_like(maxima[:, 0], best_lists.NOTHING)
  low, _ = lax.fori_loop(0, 16, halve, (low, maxima.max(axis=1)))
  return jnp.where(exist, low, jnp.inf)


def _sweep(
  mine: _Shard,
  resident: _Shard,
  lists: Best,
  pairs: np.ndarray | jax.Array,
  start: jax.Array | int,
  stop: jax.Array | int,
) -> Best:
  """Compares tiles of mine with tiles of the resident shard, for both.

  Args:
    mine: this replica's shard.
    resident: the shard that has come along the ring, or mine.
    lists: of my tiles, followed by those of the resident if it is not mine;
      [T or 2·T, M, b].
    pairs: tile of mine, tile of the resident, [P, 2].
    start: first pair to compare.
    stop: first pair to leave.
  """
  size = mine.tiles.shape[1]
  lanes, words = jnp.arange(size), size // hits.WORD
  own = resident is mine
  pairs = jnp.asarray(pairs)

  def compare(turn: jax.Array, lists: Best) -> Best:
    row, column = pairs[turn, 0], pairs[turn, 1]
    same = own & (row == column)
    slot = column if own else column + mine.tiles.shape[0]
    similarity = _similarity(mine.tiles[row], resident.tiles[column])

    of_rows = jax.tree.map(lambda x: x[row], lists)
    found = hits.row_hits(similarity, _bound(of_rows, resident.first(column)))
    found &= hits.first_bits(resident.exist(column), words)[:, None]
    found &= jnp.where(same, ~hits.diagonal_bits(words), jnp.uint32(0xFFFFFFFF))
    of_rows = hits.absorb(
      of_rows, found, lambda c: similarity[lanes, c], resident.first(column)
    )
    lists = jax.tree.map(lambda x, new: x.at[row].set(new), lists, of_rows)

    of_columns = jax.tree.map(lambda x: x[slot], lists)
    found = hits.column_hits(similarity, _bound(of_columns, mine.first(row)))
    found &= hits.first_bits(jnp.where(same, 0, mine.exist(row)), words)[:, None]
    of_columns = hits.absorb(
      of_columns, found, lambda r: similarity[r, lanes], mine.first(row)
    )
    return jax.tree.map(lambda x, new: x.at[slot].set(new), lists, of_columns)

  return lax.fori_loop(start, stop, compare, lists)


def _bound(best: Best, first_id: jax.Array) -> jax.Array:
  """What a candidate with an id from `first_id` on must reach to enter, [R]."""
  similarity, last = best_lists.worst(best)
  above = jnp.nextafter(similarity, jnp.inf)
  return jnp.where(first_id < last, similarity, above)


def _ring(mine: _Shard, lists: Best) -> Best:
  """Lets the shards travel half-way around the ring; the lists of my images."""
  devices, count = lax.axis_size(AXIS), mine.tiles.shape[0]
  me = lax.axis_index(AXIS)
  # In the last turn of an even ring two devices hold each other's shard: each
  # compares the half of the pairs that stands on its side of the list.
  pairs = np.array(list(np.ndindex(count, count)), np.int32)
  pairs = pairs[np.argsort(pairs.sum(axis=1) % 2, kind="stable")]
  half = -(-len(pairs) // 2)
  last_turn = devices // 2

  def turn(number: jax.Array, carry: tuple) -> tuple:
    tiles, lists, away = carry
    forth = [(i, (i + 1) % devices) for i in range(devices)]
    tiles, away = lax.ppermute((tiles, away), AXIS, forth)
    first_id = (me - number) % devices * mine.rows
    resident = mine._replace(tiles=tiles, first_id=first_id)
    shared = 2 * number == devices
    start = jnp.where(shared & (me >= last_turn), half, 0)
    stop = jnp.where(shared & (me < last_turn), half, len(pairs))
    both = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), lists, away)
    both = _sweep(mine, resident, both, pairs, start, stop)
    lists, away = (
      jax.tree.map(lambda x, s=s: x[s], both)
      for s in (slice(count), slice(count, None))
    )
    return tiles, lists, away

  floors = jax.vmap(lambda best: best_lists.worst(best)[0])(lists)
  away = jax.vmap(partial(best_lists.empty, count=lists.ids.shape[1]))(floors)
  _, lists, away = lax.fori_loop(1, last_turn + 1, turn, (mine.tiles, lists, away))
  back = [(i, (i - last_turn) % devices) for i in range(devices)]
  return lax.map(
    lambda two: best_lists.merge(*two), (lists, lax.ppermute(away, AXIS, back))
  )
