import jax.numpy as jnp
import numpy as np
import pytest

from clim_jax.selection.search import best, hits


def _unpack(words):
  """Bits of words [G, R] as booleans [32·G, R]."""
  bits = np.unpackbits(
    np.ascontiguousarray(np.asarray(words).T).view(np.uint8), axis=1, bitorder="little"
  )
  return bits.T.astype(bool)


def _similarity(rows, columns):
  return np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)


def test_row_hits_are_the_columns_that_reach_the_bound_of_the_row():
  similarity, bound = _similarity(64, 96), _similarity(64, 1)[:, 0]
  bound[5] = similarity[5, 33]  # equal reaches it
  words = hits.row_hits(jnp.asarray(similarity), jnp.asarray(bound))
  np.testing.assert_array_equal(_unpack(words), (similarity >= bound[:, None]).T)


def test_column_hits_are_the_rows_that_reach_the_bound_of_the_column():
  similarity, bound = _similarity(96, 64), _similarity(64, 1)[:, 0]
  bound[5] = similarity[33, 5]
  words = hits.column_hits(jnp.asarray(similarity), jnp.asarray(bound))
  np.testing.assert_array_equal(_unpack(words), similarity >= bound[None])


@pytest.mark.parametrize("count", [-3, 0, 1, 31, 32, 33, 64, 95, 96, 200])
def test_first_bits_are_as_many_as_asked_for_within_the_words(count):
  bits = _unpack(hits.first_bits(jnp.int32(count), 3)[:, None])[:, 0]
  np.testing.assert_array_equal(bits, np.arange(96) < count)


def test_diagonal_bits_are_the_identity():
  np.testing.assert_array_equal(_unpack(hits.diagonal_bits(3)), np.eye(96, dtype=bool))


@pytest.mark.parametrize(
  "hits_of_row",
  [
    pytest.param(lambda row: 12, id="as_many_everywhere"),
    pytest.param(lambda row: 20 if row % 16 == 3 else row % 4, id="many_in_few_rows"),
    pytest.param(lambda row: row % 20 + 1, id="all_counts"),
    pytest.param(lambda row: 20 if row == 63 else 0, id="only_in_the_last_row"),
  ],
)
def test_absorbing_inserts_every_hit_and_nothing_else(hits_of_row):
  similarity = _similarity(64, 96)
  similarity[:, 31] = similarity[:, 32]  # the last bit of a word, and a tie
  ordered = np.sort(similarity, axis=1)
  bound = np.stack([ordered[row, -1 - hits_of_row(row)] for row in range(64)])
  bound = np.nextafter(bound, np.inf, dtype=np.float32)
  bound[7] = 10.0  # a row without any hit
  words = hits.row_hits(jnp.asarray(similarity), jnp.asarray(bound))
  lists = best.empty(jnp.full(64, best.NOTHING), 20)
  out = best.ordered(
    hits.absorb(lists, words, lambda row, c: jnp.asarray(similarity)[row, c], 1000)
  )
  for row in range(64):
    hit = np.flatnonzero(similarity[row] >= bound[row])
    expected = sorted(hit, key=lambda c, row=row: (-similarity[row, c], c))
    padded = [1000 + c for c in expected] + [best.NO_NEIGHBOUR] * (20 - len(expected))
    np.testing.assert_array_equal(out.ids[:, row], padded)


def test_negative_zero_is_a_similarity_of_zero():
  # Whether −1·0 + 0·1 keeps its sign depends on the machine; a sort looks at it.
  similarity = jnp.tile(jnp.float32([-0.0, 0.0]), (32, 16))
  words = hits.row_hits(similarity, jnp.zeros(32))
  lists = best.empty(jnp.full(32, best.NOTHING), 32)
  out = best.ordered(hits.absorb(lists, words, lambda row, c: similarity[row, c], 0))
  np.testing.assert_array_equal(out.ids[:, 0], np.arange(32))
