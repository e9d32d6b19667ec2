"""Compares pairs of tiles, each product serving the images of both."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from clim_jax.selection.search import best as best_lists
from clim_jax.selection.search import hits
from clim_jax.selection.search.best import Best
from clim_jax.selection.search.scoring import similarities


class Shard(NamedTuple):
  tiles: jax.Array  # rows, filled up with zeros to whole tiles, [T, b, D]
  first_id: jax.Array  # id of the first row, [] int32
  rows: int  # of the shard; later ones are filling
  num_images: int  # ids from here on are padding
  scoring: str  # one of SCORINGS
  slack: jax.Array  # how far scores can be off, [] float32

  def first(self, tile: jax.Array) -> jax.Array:
    """Id of the first row of a tile."""
    return self.first_id + tile * self.tiles.shape[1]

  def exist(self, tile: jax.Array) -> jax.Array:
    """How many rows of a tile are images; they come first."""
    left = jnp.minimum(self.rows, self.num_images - self.first_id)
    return left - tile * self.tiles.shape[1]


def lists_at_home(mine: Shard, num_neighbours: int) -> Best:
  """Lists of all images after each tile has been compared with itself, [T, M, b]."""
  size = mine.tiles.shape[1]
  lanes, words = jnp.arange(size), size // hits.WORD

  def compare(tile: jax.Array) -> Best:
    rows = mine.tiles[tile]
    similarity, exactly = similarities(rows, rows, mine.scoring)
    exist = lanes < mine.exist(tile)
    others = exist[None] & (lanes[:, None] != lanes[None])
    floor = _floor(similarity, others, num_neighbours) - mine.slack
    floor = jnp.where(exist, floor, jnp.inf)  # filling needs no neighbours
    found = hits.row_hits(similarity, floor - mine.slack) & ~hits.diagonal_bits(words)
    found &= hits.first_bits(mine.exist(tile), words)[:, None]
    empty = best_lists.empty(floor, num_neighbours)
    return hits.absorb(empty, found, exactly, mine.first(tile))

  return lax.map(compare, jnp.arange(mine.tiles.shape[0]))


def sweep(
  mine: Shard,
  visitor: Shard,
  lists: Best,
  pairs: jax.Array,
  start: jax.Array,
  stop: jax.Array,
) -> Best:
  """Compares tiles of mine with other tiles of the visiting shard, for both.

  Args:
    mine: this replica's shard.
    visitor: the shard that has come along the ring, or the very same object.
    lists: of my tiles, followed by those of the visitor if that is not me;
      [T or 2·T, M, b].
    pairs: tile of mine, tile of the visitor, [P, 2].
    start: first pair to compare.
    stop: first pair to leave.
  """
  size = mine.tiles.shape[1]
  words = size // hits.WORD
  at_home = visitor is mine

  def compare(turn: jax.Array, lists: Best) -> Best:
    row, column = pairs[turn, 0], pairs[turn, 1]
    slot = column if at_home else column + mine.tiles.shape[0]
    tiles = mine.tiles[row], visitor.tiles[column]

    # One read and one write: with more of them XLA copies all lists every time.
    places = jnp.stack([row, slot])
    both = jax.tree.map(lambda x: x[places], lists)
    of_rows, of_columns = (jax.tree.map(lambda x, i=i: x[i], both) for i in (0, 1))

    row_bound = _bound(of_rows, visitor.first(column)) - mine.slack
    column_bound = _bound(of_columns, mine.first(row)) - mine.slack
    similarity, exactly = similarities(*tiles, mine.scoring)
    row_found = hits.row_hits(similarity, row_bound)
    row_found &= hits.first_bits(visitor.exist(column), words)[:, None]
    column_found = hits.column_hits(similarity, column_bound)
    column_found &= hits.first_bits(mine.exist(row), words)[:, None]
    of_rows = hits.absorb(of_rows, row_found, exactly, visitor.first(column))
    of_columns = hits.absorb(
      of_columns,
      column_found,
      lambda column, row: exactly(row, column),
      mine.first(row),
    )
    both = jax.tree.map(lambda *two: jnp.stack(two), of_rows, of_columns)
    return jax.tree.map(
      lambda x, new: x.at[places].set(new, mode="promise_in_bounds"), lists, both
    )

  return lax.fori_loop(start, stop, compare, lists)


def _bound(best: Best, first_id: jax.Array) -> jax.Array:
  """What a candidate with an id from `first_id` on must reach to enter, [b]."""
  similarity, last = best_lists.worst(best)
  above = jnp.nextafter(similarity, jnp.inf)
  return jnp.where(first_id < last, similarity, above)


def _floor(similarity: jax.Array, others: jax.Array, num_neighbours: int) -> jax.Array:
  """What at least M of the allowed others, [b, b], reach for each row of a tile, [b].

  The tile is cut into groups. If M groups have a maximum of at least x, M rows
  reach x; bisection finds such an x, for which few more than M rows do.
  """
  size = similarity.shape[0]
  group = 1
  while group < hits.WORD and 8 * group * num_neighbours <= size:
    group *= 2
  similarity = jnp.where(others, similarity, best_lists.NOTHING)
  maxima = similarity.reshape(size, size // group, group).max(axis=2)

  def halve(_: jax.Array, bounds: tuple[jax.Array, jax.Array]) -> tuple:
    low, high = bounds
    middle = (low + high) / 2
    enough = (maxima >= middle[:, None]).sum(axis=1) >= num_neighbours
    return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

  low = jnp.full_like(maxima[:, 0], best_lists.NOTHING)
  return lax.fori_loop(0, 16, halve, (low, maxima.max(axis=1)))[0]
