"""Hits: which similarities of a tile may enter a best list, one bit each.

Sorting a tile costs many times its matrix product. But once a list is warm only a
few similarities of a tile reach its last place, so a tile is read once, by one
comparison per element whose results are packed 32 to a word, and only the set bits
are visited: the r-th hit of every row at once.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from clim_jax.selection.search.best import Best, insert
from clim_jax.selection.search.tile_pairs import WORD

ALL = np.uint32(0xFFFFFFFF)
_FEW = 16  # a row in so many is few
_BITS = np.uint32(1) << np.arange(WORD, dtype=np.uint32)


def row_hits(similarity: jax.Array, bound: jax.Array) -> jax.Array:
  """Words [C / 32, R] of `similarity` [R, C] ≥ `bound` [R]; bit e of g: 32·g + e."""
  rows, columns = similarity.shape
  hit = (similarity >= bound[:, None]).reshape(rows, columns // WORD, WORD)
  words = jnp.where(hit, _BITS[None, None], jnp.uint32(0)).sum(2, dtype=jnp.uint32)
  return lax.optimization_barrier(words).T


def column_hits(similarity: jax.Array, bound: jax.Array) -> jax.Array:
  """Words [R / 32, C] of `similarity` [R, C] ≥ `bound` [C]; bit e of g: 32·g + e."""
  return _pack(similarity >= bound[None])


def first_bits(count: jax.Array, words: int) -> jax.Array:
  """Words [words] whose first `count` bits are set."""
  bits = jnp.clip(count - WORD * jnp.arange(words), 0, WORD)
  some = (jnp.uint32(1) << (bits % WORD).astype(jnp.uint32)) - jnp.uint32(1)
  return jnp.where(bits == WORD, ALL, some)


def diagonal_bits(words: int) -> jax.Array:
  """Words [words, 32·words] in which row r has bit r alone."""
  row = jnp.arange(WORD * words)
  bit = (jnp.uint32(1) << (row % WORD).astype(jnp.uint32))[None]
  return jnp.where(
    jnp.arange(words)[:, None] == (row // WORD)[None], bit, jnp.uint32(0)
  )


class _Walk(NamedTuple):
  """Where each of R rows stands among its hits."""

  flags: jax.Array  # words with hits still to fetch, [⌈words / 32⌉, R] uint32
  group: jax.Array  # index of the current word, [R] int32
  word: jax.Array  # its hits still to visit, [R] uint32
  best: Best


def absorb(
  best: Best,
  words: jax.Array,
  similarity_at: Callable[[jax.Array, jax.Array], jax.Array],
  first_id: jax.Array,
) -> Best:
  """Inserts every hit.

  Args:
    best: lists of R rows.
    words: hits of each row among the tile's candidates, [candidates / 32, R].
    similarity_at: rows and a candidate of each → their similarities, [K], [K] → [K].
    first_id: id of the tile's first candidate.

  Returns:
    The lists. All rows are visited together as often as most of them need, and the
    few with more hits by themselves from then on.
  """
  count = lax.population_count(words).sum(0, dtype=jnp.uint32).astype(jnp.int32)
  most, rows = count.max(), jnp.arange(words.shape[1])
  nowhere = jnp.zeros_like(words[0])
  walk = _Walk(_pack(words != 0), nowhere.astype(jnp.int32), nowhere, best)

  def visit(rounds: jax.Array, words: jax.Array, rows: jax.Array, walk: _Walk) -> _Walk:
    def insert_next(_: jax.Array, walk: _Walk) -> _Walk:
      walk, has_hit, candidate = _next(words, walk)
      similarity = similarity_at(rows, candidate)
      similarity = jnp.where(similarity == 0, 0.0, similarity)  # −0 is no other value
      similarity = jnp.where(has_hit, similarity, -jnp.inf)
      return walk._replace(best=insert(walk.best, similarity, first_id + candidate))

    return lax.fori_loop(0, rounds, insert_next, walk)

  rounds, few = _few_with_more(count, max(1, rows.size // _FEW))
  walk = visit(rounds, words, rows, walk)
  kept = jnp.minimum(few, rows.size - 1)
  rest = jax.tree.map(lambda x: x[..., kept], walk)
  rest = visit(most - rounds, words[:, kept], kept, rest)
  return jax.tree.map(
    lambda x, new: x.at[:, few].set(new, mode="drop"), walk.best, rest.best
  )


def _few_with_more(count: jax.Array, at_most: int) -> tuple[jax.Array, jax.Array]:
  """A bound that at most so many of `count` [R] exceed, and their rows, then R's."""

  def halve(_: jax.Array, bounds: tuple[jax.Array, jax.Array]) -> tuple:
    low, high = bounds
    middle = (low + high) // 2
    is_enough = (count > middle).sum() <= at_most
    return jnp.where(is_enough, low, middle + 1), jnp.where(is_enough, middle, high)

  _, bound = lax.fori_loop(0, 8, halve, (jnp.zeros_like(count[0]), count.max()))
  exceeding = jnp.cumsum(count > bound)
  return bound, jnp.searchsorted(exceeding, jnp.arange(1, at_most + 1))


def _next(words: jax.Array, walk: _Walk) -> tuple[_Walk, jax.Array, jax.Array]:
  """Each row's next hit, whether it has one and where, [R]."""
  flags, group, word, _ = walk
  # Where the word is used up, the row goes on to its next one.
  is_new = word == 0
  levels = jnp.arange(flags.shape[0])[:, None]
  level = jnp.where(flags != 0, levels, flags.shape[0]).min(axis=0)
  here = levels == level[None]  # a masked maximum reads faster than a gather
  flag = jnp.where(here, flags, jnp.uint32(0)).max(axis=0)
  group = jnp.where(is_new, WORD * level + _lowest(flag), group)
  flags = jnp.where(is_new[None] & here, flags & (flags - jnp.uint32(1)), flags)
  fetched = jnp.take_along_axis(words, group[None], axis=0, mode="clip")[0]
  word = jnp.where(is_new & (flag != 0), fetched, word)
  has_hit = word != 0
  candidate = jnp.where(has_hit, WORD * group + _lowest(word), 0)
  word &= word - jnp.uint32(1)
  return walk._replace(flags=flags, group=group, word=word), has_hit, candidate


def _pack(bits: jax.Array) -> jax.Array:
  """Bits along the first axis as words, [⌈G / 32⌉, R] uint32."""
  groups, rows = bits.shape
  padded = jnp.pad(bits, ((0, -groups % WORD), (0, 0))).reshape(-1, WORD, rows)
  return jnp.where(padded, _BITS[None, :, None], jnp.uint32(0)).sum(1, dtype=jnp.uint32)


def _lowest(words: jax.Array) -> jax.Array:
  """Index of the lowest set bit; −1 without one."""
  lowest = words & (~words + jnp.uint32(1))
  return WORD - 1 - lax.clz(lowest).astype(jnp.int32)
