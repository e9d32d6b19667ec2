import functools

import jax.numpy as jnp
import numpy as np
import pytest
import sharded

from clim_jax import sharding
from clim_jax.selection.search import exact, scoring


@pytest.fixture
def small_tiles(monkeypatch):
  monkeypatch.setattr(exact, "_TILE_ON_CPU", 32)


def _crowded():
  """Rows so near to one another that bfloat16 cannot tell which are nearest."""
  rng = np.random.default_rng(3)
  x = rng.normal(size=24) + 0.02 * rng.normal(size=(203, 24))
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def _bfloat16(x):
  return np.asarray(jnp.asarray(x, jnp.bfloat16).astype(jnp.float32))


def _kth_similarity(bank, ids):
  """Float64 cosine of each row to each of its ids, [N, M]."""
  bank = bank.astype(np.float64)
  return np.einsum("nd,nmd->nm", bank, bank[ids])


def _nearest(bank, count):
  bank = bank.astype(np.float64)
  similarity = bank @ bank.T
  np.fill_diagonal(similarity, -2)
  return -np.sort(-similarity, axis=1)[:, :count]


@pytest.mark.parametrize(
  ("bank", "devices"),
  [(sharded.unit_rows(0, 203, 16), 1), (_crowded(), 4)],
  ids=["random", "crowded"],
)
def test_bfloat16_finds_what_float32_finds(bank, devices, small_tiles):
  ids = sharded.search(bank, devices, 20, scoring="bfloat16")
  np.testing.assert_allclose(_kth_similarity(bank, ids), _nearest(bank, 20), atol=5e-7)


def test_bfloat16_alone_would_not_find_the_nearest_of_a_crowd():
  coarse = _bfloat16(_crowded())
  similarity = coarse @ coarse.T
  np.fill_diagonal(similarity, -2)
  ids = np.argsort(-similarity, axis=1)[:, :20]
  missed = _nearest(_crowded(), 20) - _kth_similarity(_crowded(), ids)
  assert missed.max() > 1e-5


@pytest.mark.parametrize("dim", [3, 2048])
def test_no_bfloat16_cosine_is_off_by_more_than_the_slack(dim):
  bank = sharded.unit_rows(1, 256, dim)
  bank[0] = _worst_case(dim)
  mesh = sharded.mesh(2)
  slack_of = functools.partial(scoring.slack_of, scoring="bfloat16")
  slack = sharding.spmd(
    slack_of, mesh, in_specs=sharding.ROWS, out_specs=sharding.REPLICATED
  )(jnp.asarray(bank))
  coarse, exactly = scoring.similarities(
    jnp.asarray(bank), jnp.asarray(bank), "bfloat16"
  )
  exact = bank.astype(np.float64) @ bank.T.astype(np.float64)
  error = np.abs(np.asarray(coarse) - exact).max()
  assert error <= slack
  assert slack < 2**-7 + 2**-8  # or it would be of little use
  rows = jnp.arange(256)
  np.testing.assert_allclose(
    exactly(rows, rows[::-1]), exact[rows, rows[::-1]], atol=1e-6
  )


def _worst_case(dim):
  """A unit row whose every value lies half-way between two of bfloat16."""
  value = np.float32(1 / np.sqrt(dim))
  exponent = np.floor(np.log2(value))
  row = np.full(dim, 2.0**exponent * (1 + 2**-8), np.float64)
  return (row / np.linalg.norm(row)).astype(np.float32)


@pytest.mark.parametrize("devices", [3, 8])
def test_neighbours_by_bfloat16_are_the_same_on_any_number_of_devices(
  devices, small_tiles
):
  bank = np.repeat(_crowded(), 2, axis=0)  # ties everywhere
  one, many = (
    sharded.search(bank, count, 20, scoring="bfloat16") for count in (1, devices)
  )
  np.testing.assert_array_equal(one, many)
