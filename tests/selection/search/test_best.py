import jax.numpy as jnp
import numpy as np
import pytest

from clim_jax.selection.search import best
from clim_jax.selection.search.best import NO_NEIGHBOUR, NOTHING

ROWS, COUNT = 6, 5


def _expected(similarity, ids, count=COUNT):
  """By Python's sort: greatest similarity first, then the least id."""
  rows = [
    sorted(zip(-s, i, strict=True))[:count]
    for s, i in zip(similarity.T, ids.T, strict=True)
  ]
  return np.array([[i for _, i in row] for row in rows]).T


def _candidates(seed, count):
  """Few distinct similarities, so that ids must decide; each id once a row."""
  rng = np.random.default_rng(seed)
  similarity = rng.integers(-2, 3, (count, ROWS)).astype(np.float32) / 2
  return similarity, rng.permuted(np.tile(np.arange(count)[:, None], ROWS), axis=0)


def _filled(similarity, ids, floor=NOTHING):
  lists = best.empty(jnp.full(ROWS, floor), COUNT)
  for s, i in zip(similarity, ids, strict=True):
    lists = best.insert(lists, jnp.asarray(s), jnp.asarray(i, jnp.int32))
  return lists


@pytest.mark.parametrize("seed", range(4))
def test_the_best_are_kept_in_whatever_order_they_come(seed):
  similarity, ids = _candidates(seed, 40)
  out = best.ordered(_filled(similarity, ids))
  np.testing.assert_array_equal(out.ids, _expected(similarity, ids))
  kept = np.take_along_axis(similarity, np.argsort(ids, axis=0), axis=0)
  np.testing.assert_array_equal(
    out.similarity, np.take_along_axis(kept, np.asarray(out.ids), axis=0)
  )


def test_merging_two_lists_is_as_filling_one():
  similarity, ids = _candidates(7, 30)
  merged = best.merge(
    _filled(similarity[:11], ids[:11]), _filled(similarity[11:], ids[11:])
  )
  out = best.ordered(merged)
  np.testing.assert_array_equal(out.ids, _expected(similarity, ids))


def test_a_floor_that_enough_candidates_reach_changes_nothing():
  similarity, ids = _candidates(3, 40)
  floor = np.sort(similarity, axis=0)[-COUNT].min()
  out = best.ordered(_filled(similarity, ids, floor))
  np.testing.assert_array_equal(out.ids, _expected(similarity, ids))


def test_places_that_nobody_took_are_last_and_say_so():
  similarity, ids = _candidates(1, 3)
  out = best.ordered(_filled(similarity, ids))
  np.testing.assert_array_equal(out.ids[:3], _expected(similarity, ids, 3))
  np.testing.assert_array_equal(out.ids[3:], NO_NEIGHBOUR)
  np.testing.assert_array_equal(out.similarity[3:], NOTHING)


def test_the_worst_of_equals_is_the_one_with_the_greatest_id():
  lists = _filled(
    np.full((COUNT, ROWS), 0.5), np.tile(np.int32([[3], [9], [1], [7], [5]]), ROWS)
  )
  similarity, ids = best.worst(lists)
  np.testing.assert_array_equal(similarity, 0.5)
  np.testing.assert_array_equal(ids, 9)
