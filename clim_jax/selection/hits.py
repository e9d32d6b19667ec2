"""Hits: which similarities of a tile may enter a best list, one bit each.

Sorting a tile costs many times its matrix product. But once a list is warm only a
few similarities of a tile reach its last place, so a tile is read once, by one
comparison per element whose results are packed 32 to a word, and only the set bits
are visited: the r-th hit of every row at once.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from clim_jax.selection.best import Best, insert
from clim_jax.selection.tile_pairs import WORD

ALL = np.uint32(0xFFFFFFFF)
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


def absorb(
  best: Best,
  words: jax.Array,
  similarity_at: Callable[[jax.Array], jax.Array],
  first_id: jax.Array,
) -> Best:
  """Inserts every hit.

  Args:
    best: lists of R rows.
    words: hits of each row among the tile's candidates, [candidates / 32, R].
    similarity_at: similarity of each row to one candidate of its own, [R] → [R].
    first_id: id of the tile's first candidate.

  Returns:
    The lists, in time proportional to the most hits that one row has.
  """
  most = lax.population_count(words).sum(0, dtype=jnp.uint32).max()
  flags = _pack(words != 0)  # which words have a bit: [words / 32, R]

  def visit_next(_: jax.Array, carry: tuple) -> tuple[jax.Array, ...]:
    flags, group, word, best = carry
    # Where the word is used up, the row goes on to its next one.
    is_new = word == 0
    row = jnp.argmax(flags != 0, axis=0)
    flag = jnp.take_along_axis(flags, row[None], axis=0)[0]
    group = jnp.where(is_new, WORD * row + _lowest(flag), group)
    clear = is_new[None] & (jnp.arange(flags.shape[0])[:, None] == row[None])
    flags = jnp.where(clear, flags & (flags - jnp.uint32(1)), flags)
    fetched = jnp.take_along_axis(words, group[None], axis=0, mode="clip")[0]
    word = jnp.where(is_new & (flag != 0), fetched, word)

    has_hit = word != 0
    candidate = jnp.where(has_hit, WORD * group + _lowest(word), 0)
    word &= word - jnp.uint32(1)
    similarity = similarity_at(candidate)
    similarity = jnp.where(similarity == 0, 0.0, similarity)  # −0 is no other value
    similarity = jnp.where(has_hit, similarity, -jnp.inf)
    return flags, group, word, insert(best, similarity, first_id + candidate)

  start = (flags, jnp.zeros_like(words[0], jnp.int32), words[0] * jnp.uint32(0), best)
  return lax.fori_loop(0, most.astype(jnp.int32), visit_next, start)[-1]


def _pack(bits: jax.Array) -> jax.Array:
  """Bits along the first axis as words, [⌈G / 32⌉, R] uint32."""
  groups, rows = bits.shape
  padded = jnp.pad(bits, ((0, -groups % WORD), (0, 0))).reshape(-1, WORD, rows)
  return jnp.where(padded, _BITS[None, :, None], jnp.uint32(0)).sum(1, dtype=jnp.uint32)


def _lowest(words: jax.Array) -> jax.Array:
  """Index of the lowest set bit; −1 without one."""
  lowest = words & (~words + jnp.uint32(1))
  return WORD - 1 - lax.clz(lowest).astype(jnp.int32)
