"""Searches by blocks of queries, as on a GPU, here on CPUs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sharded

from clim_jax.selection.search import blocked


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
  """So that rows come in several blocks, and columns in groups of groups."""
  monkeypatch.setattr(blocked, "_SORTED", 64)
  monkeypatch.setattr(blocked, "_AT_ONCE", 2**13)
  blocked._search_fn.cache_clear()
  yield
  blocked._search_fn.cache_clear()


def _clustered():
  rng = np.random.default_rng(5)
  x = np.repeat(rng.normal(size=(7, 16)), 41, axis=0)
  x = x + 0.4 * rng.normal(size=x.shape)
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def _axes():
  """Signed axes: many copies, and cosines exactly −1, 0 or 1."""
  axes = np.concatenate([np.eye(3), -np.eye(3)])
  return axes[np.random.default_rng(2).integers(0, 6, 261)].astype(np.float32)


def _crowded():
  """Rows so near to one another that bfloat16 cannot tell which are nearest."""
  rng = np.random.default_rng(3)
  x = rng.normal(size=24) + 0.02 * rng.normal(size=(300, 24))
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


BANKS = {
  "random": sharded.unit_rows(0, 403, 16),
  "clustered": _clustered(),
  "ties": _axes(),
  "crowded": _crowded(),
  "collapsed": np.tile(np.float32([[0.0, 1.0]]), (99, 1)),
}


def _search(bank, devices, count, scoring):
  ids = blocked.blocked_neighbours(
    sharded.mesh(devices),
    jnp.asarray(sharded.pad(bank, devices, spare=1)),
    num_images=len(bank),
    num_neighbours=count,
    scoring=scoring,
  )
  return np.asarray(ids)[: len(bank)]


def _is_exact(bank, ids, count):
  """Whether float64 puts no other row before those, but for rounding in float32."""
  bank = bank.astype(np.float64)
  cosine = bank @ bank.T
  np.fill_diagonal(cosine, -np.inf)
  best = -np.sort(-cosine, axis=1)[:, :count]
  found = np.take_along_axis(cosine, ids, axis=1)
  distinct = all(len(set(row)) == count for row in ids.tolist())
  return distinct and np.abs(found - best).max() < 1e-6


@pytest.mark.parametrize("scoring", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", BANKS)
@pytest.mark.parametrize("devices", [1, 3])
def test_neighbours_are_the_nearest_by_float64(name, scoring, devices):
  ids = _search(BANKS[name], devices, 20, scoring)
  assert _is_exact(BANKS[name], ids, 20)


@pytest.mark.parametrize("scoring", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["ties", "collapsed"])
def test_equal_cosines_are_ordered_by_id(name, scoring):
  bank = BANKS[name]
  expected = [
    sorted(set(range(len(bank))) - {row}, key=lambda i, s=s: (-s[i], i))[:20]
    for row, s in enumerate((bank @ bank.T).astype(int))
  ]
  np.testing.assert_array_equal(_search(bank, 1, 20, scoring), expected)


@pytest.mark.parametrize("scoring", ["float32", "bfloat16"])
def test_missing_neighbours_are_said(scoring):
  ids = _search(sharded.unit_rows(1, 5, 8), 1, 9, scoring)
  assert (ids[:, 4:] == -1).all()
  assert (
    np.sort(ids[:, :4]) == [[j for j in range(5) if j != i] for i in range(5)]
  ).all()


def _in_bfloat16(bank, rows, own, slack, count):
  bank = jnp.asarray(np.pad(bank, ((0, -len(bank) % 64), (0, 0))))
  found = jax.jit(blocked._in_bfloat16, static_argnums=(3, 4))
  coarse = bank.astype(jnp.bfloat16)
  block = jnp.asarray(rows), jnp.asarray(own)
  ids, holds_all = found(bank, coarse, jnp.float32(slack), 300, count, block)
  return np.asarray(ids), bool(holds_all)


def test_bfloat16_knows_when_its_candidates_may_not_hold_all():
  cosine = np.linspace(0.9, 0.885, 300, dtype=np.float32)
  bank = np.stack([cosine, np.sqrt(1 - cosine**2)], axis=1)
  query = np.float32([[1.0, 0.0]])
  # The 20th is 0.8990, the last of 128 candidates 0.8936.
  assert _in_bfloat16(bank, query, [999], 0.0005, 20)[1]
  assert not _in_bfloat16(bank, query, [999], 0.01, 20)[1]


def test_cosines_that_only_bfloat16_tells_apart_are_ordered_by_id():
  more = 3 * 2.0**-10  # 1 + more is 1 in bfloat16; 0.25 − more is itself
  uneven, even = [1 + more, 0.25 - more, -1], [1, 0.25, -1]
  bank = np.float32([uneven, even] * 50)  # all of them are candidates
  ids, _ = _in_bfloat16(bank, np.ones((1, 3), np.float32), [999], 0.0, 20)
  np.testing.assert_array_equal(ids, [np.arange(20)])


@pytest.mark.parametrize("total", [1, 63, 64, 65, 1000, 4097])
def test_the_best_of_each_row_are_numpys_stable_ones(total):
  values = np.random.default_rng(total).integers(0, 50, (5, total)).astype(np.float32)
  count = min(17, total)
  expected = np.argsort(-values, axis=1, kind="stable")[:, :count]
  found = blocked.best_of_each(jnp.asarray(values), count)
  np.testing.assert_array_equal(found, expected)
