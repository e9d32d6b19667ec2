"""Nearest neighbours on a row-sharded bank: a ring of symmetric tiles.

Every similarity serves two images, so each pair of tiles is multiplied once: by
columns for the images of one tile, by rows for those of the other. Between devices
the shards travel half-way around a ring, and take along the best lists of their own
images, which go home at the end.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from clim_jax import sharding
from clim_jax.selection.search import best as best_lists
from clim_jax.selection.search.best import Best
from clim_jax.selection.search.blocked import blocked_neighbours
from clim_jax.selection.search.scoring import slack_of
from clim_jax.selection.search.sweep import Shard, lists_at_home, sweep
from clim_jax.selection.search.tile_pairs import TilePairs, Tiling, all_pairs
from clim_jax.sharding import AXIS, row_offset

# Rows of a tile: on a CPU its similarities, 16 MiB, should stay in the cache; an
# accelerator wants few and large products.
_TILE_ON_CPU = 2048
_TILE_ON_ACCELERATOR = 8192


def exact_neighbours(
  mesh: Mesh,
  bank: jax.Array,
  *,
  num_images: int,
  num_neighbours: int,
  scoring: str = "float32",
) -> jax.Array:
  """Ids of the most similar other rows of the whole bank.

  Equal similarities are ordered by id, whatever the number of devices.

  Args:
    mesh: the devices over which the bank's rows are sharded.
    bank: unit-norm, rows sharded, [N_pad, D] float32.
    num_images: N; rows from N on are padding, never a neighbour.
    num_neighbours: M.
    scoring: one of `scoring.SCORINGS`. Those with bfloat16 compute anew in float32
      whatever may be a neighbour: as exact, and meant for accelerators.

  Returns:
    Ids, nearest first, rows sharded, [N_pad, M] int32; `NO_NEIGHBOUR` where fewer
    than M other images exist.
  """
  platform = mesh.devices.flat[0].platform
  if platform == "gpu":
    return blocked_neighbours(
      mesh,
      bank,
      num_images=num_images,
      num_neighbours=num_neighbours,
      scoring=scoring,
    )
  at_most = _TILE_ON_CPU if platform == "cpu" else _TILE_ON_ACCELERATOR
  tiling = Tiling.of(bank.shape[0], mesh.devices.size, at_most=at_most)
  return compare_tiles(
    mesh,
    bank,
    all_pairs(tiling),
    tiling=tiling,
    num_images=num_images,
    num_neighbours=num_neighbours,
    scoring=scoring,
  )


def compare_tiles(
  mesh: Mesh,
  bank: jax.Array,
  pairs: TilePairs,
  *,
  tiling: Tiling,
  num_images: int,
  num_neighbours: int,
  scoring: str,
) -> jax.Array:
  """The nearest of those rows whose tiles are compared; see `exact_neighbours`."""
  search = _search_fn(mesh, tiling, num_images, num_neighbours, scoring)
  return search(bank, *pairs)


# Mapped functions are made once for each setting: a refresh never recompiles.
@functools.cache
def _search_fn(  # noqa: ANN202
  mesh: Mesh, tiling: Tiling, num_images: int, num_neighbours: int, scoring: str
):
  def search(bank: jax.Array, pairs: jax.Array, bounds: jax.Array) -> jax.Array:
    rows = bank.shape[0]
    filling = ((0, tiling.count * tiling.size - rows), (0, 0))
    tiles = jnp.pad(bank, filling).reshape(tiling.count, tiling.size, -1)
    slack = slack_of(bank, scoring)
    mine = Shard(tiles, row_offset(rows), rows, num_images, scoring, slack)
    pairs, bounds = pairs[0], bounds[0]
    lists = lists_at_home(mine, num_neighbours)
    lists = sweep(mine, mine, lists, pairs, bounds[0], bounds[1])
    if tiling.devices > 1:
      lists = _ring(mine, lists, pairs, bounds)
    ids = lax.map(best_lists.ordered, lists).ids
    return ids.transpose(0, 2, 1).reshape(-1, num_neighbours)[:rows]

  by_row = sharding.ROWS
  return sharding.spmd(search, mesh, in_specs=(by_row,) * 3, out_specs=by_row)


def _ring(mine: Shard, lists: Best, pairs: jax.Array, bounds: jax.Array) -> Best:
  """Lets the shards travel half-way around the ring; the lists of my images."""
  devices, count = lax.axis_size(AXIS), mine.tiles.shape[0]
  last_turn = devices // 2

  def turn(number: jax.Array, carry: tuple) -> tuple:
    tiles, lists, away = carry
    forth = [(i, (i + 1) % devices) for i in range(devices)]
    tiles, away = lax.ppermute((tiles, away), AXIS, forth)
    first_id = (lax.axis_index(AXIS) - number) % devices * mine.rows
    visitor = mine._replace(tiles=tiles, first_id=first_id)
    both = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), lists, away)
    both = sweep(mine, visitor, both, pairs, bounds[number], bounds[number + 1])
    lists = jax.tree.map(lambda x: x[:count], both)
    return tiles, lists, jax.tree.map(lambda x: x[count:], both)

  # What an image has found at home is a floor for what it finds on its way.
  floors = jax.vmap(lambda best: best_lists.worst(best)[0])(lists)
  empty = functools.partial(best_lists.empty, count=lists.ids.shape[1])
  carry = (mine.tiles, lists, jax.vmap(empty)(floors))
  _, lists, away = lax.fori_loop(1, last_turn + 1, turn, carry)
  back = [(i, (i - last_turn) % devices) for i in range(devices)]
  away = lax.ppermute(away, AXIS, back)
  return lax.map(lambda two: best_lists.merge(*two), (lists, away))
