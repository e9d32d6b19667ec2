"""Best lists: the best M candidates of many rows, kept while more arrive.

A list lies along the first axis and the rows along the last, so that every
operation is elementwise over rows. A list is unordered until the end, which makes
an insertion three passes over it instead of a sort. Candidates are compared by
similarity, then by id, so that the order of their arrival never matters.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

NO_NEIGHBOUR = -1
NOTHING = -2.0  # less than any cosine
_NOBODY = jnp.iinfo(jnp.int32).max  # ids from _NOBODY − M on mark an empty place


class Best(NamedTuple):
  similarity: jax.Array  # [M, R] float32
  ids: jax.Array  # [M, R] int32; the ids of a row differ


def empty(floor: jax.Array, count: int) -> Best:
  """Lists [count, R] which only candidates of at least `floor` [R] enter.

  `floor` must be reached by at least `count` candidates of the row in the end:
  it saves work and never changes a result.
  """
  similarity = jnp.tile(floor[None], (count, 1))
  nobody = _NOBODY - jnp.arange(count, dtype=jnp.int32)
  return Best(similarity, jnp.full_like(similarity, 0, jnp.int32) + nobody[:, None])


def worst(best: Best) -> tuple[jax.Array, jax.Array]:
  """Similarity and id of each row's last candidate, [R] each."""
  similarity = best.similarity.min(axis=0)
  is_least = best.similarity == similarity[None]
  return similarity, jnp.where(is_least, best.ids, -1).max(axis=0)


def insert(best: Best, similarity: jax.Array, ids: jax.Array) -> Best:
  """Puts one candidate a row, [R], in the place of the worst if it is better."""
  least, last = worst(best)
  better = (similarity > least) | ((similarity == least) & (ids < last))
  place = better[None] & (best.ids == last[None])
  return Best(
    jnp.where(place, similarity[None], best.similarity),
    jnp.where(place, ids[None], best.ids),
  )


def merge(best: Best, other: Best) -> Best:
  """The best M of both lists; they have no candidate in common."""

  def body(m: jax.Array, best: Best) -> Best:
    return insert(best, other.similarity[m], other.ids[m])

  return lax.fori_loop(0, other.ids.shape[0], body, best)


def ordered(best: Best) -> Best:
  """Best first; places that nobody took hold `NOTHING` and `NO_NEIGHBOUR`."""
  count = best.ids.shape[0]
  places = jnp.arange(count)[:, None]

  # Counting who comes before takes M² comparisons, which run over rows side by side;
  # a sort takes each column by itself and on a CPU three times as long.
  def place(m: jax.Array, out: Best) -> Best:
    similarity, ids = best.similarity[m], best.ids[m]
    before = best.similarity > similarity[None]
    before |= (best.similarity == similarity[None]) & (best.ids < ids[None])
    here = places == before.sum(axis=0)[None]
    return Best(
      jnp.where(here, similarity[None], out.similarity),
      jnp.where(here, ids[None], out.ids),
    )

  similarity, ids = lax.fori_loop(0, count, place, best)
  taken = ids <= _NOBODY - count
  return Best(
    jnp.where(taken, similarity, NOTHING), jnp.where(taken, ids, NO_NEIGHBOUR)
  )
