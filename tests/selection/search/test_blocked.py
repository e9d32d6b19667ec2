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


def test_bfloat16_knows_when_its_candidates_may_not_hold_all():
  def holds_all(bank):
    bank = jnp.asarray(np.pad(bank, ((0, -len(bank) % 64), (0, 0))))
    block = bank[:100], jnp.arange(100)
    coarse, slack = bank.astype(jnp.bfloat16), jnp.float32(0.01)
    found = jax.jit(blocked._in_bfloat16, static_argnums=(3, 4))
    return bool(found(bank, coarse, slack, 300, 20, block)[1])

  assert holds_all(sharded.unit_rows(0, 300, 16))
  assert not holds_all(_crowded())


@pytest.mark.parametrize("total", [1, 63, 64, 65, 1000, 4097])
def test_the_best_of_each_row_are_numpys_stable_ones(total):
  values = np.random.default_rng(total).integers(0, 50, (5, total)).astype(np.float32)
  count = min(17, total)
  expected = np.argsort(-values, axis=1, kind="stable")[:, :count]
  found = blocked.best_of_each(jnp.asarray(values), count)
  np.testing.assert_array_equal(found, expected)
