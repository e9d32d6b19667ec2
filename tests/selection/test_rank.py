"""In how many directions features lie, against a singular value decomposition."""

import numpy as np
import pytest
import sharded

from clim_jax import sharding
from clim_jax.selection.rank import rank_me


def found(rows, devices):
  """With rows of padding that are no zeros."""
  padding = np.full((-len(rows) % devices + devices, rows.shape[1]), 9.0, np.float32)
  mesh = sharded.mesh(devices)
  bank = sharding.put_rows(mesh, np.concatenate([rows, padding]))
  return rank_me(mesh, bank, len(rows))


@pytest.mark.parametrize("devices", [1, 8])
def test_it_is_the_entropy_of_the_singular_values(devices):
  rows = np.random.default_rng(0).normal(size=(37, 6)) * [5, 3, 1, 1, 0.5, 0.1]
  rows = np.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True))
  share = np.linalg.svd(np.float64(rows), compute_uv=False)
  share /= share.sum()
  expected = np.prod(share**-share)
  assert found(rows, devices) == pytest.approx(expected, rel=1e-5)


def test_axes_used_alike_are_counted_and_one_point_is_one():
  assert found(np.eye(6, dtype=np.float32)[np.arange(24) % 4], 8) == pytest.approx(4)
  # Float32 leaves singular values of about 1e-4 of the largest where there are none.
  point = np.full((24, 6), 6**-0.5, np.float32)
  assert found(point, 8) == pytest.approx(1, abs=0.02)
