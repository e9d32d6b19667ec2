"""The same positives however many devices and processes select them."""

import numpy as np
import processes
import pytest
import select_in_process
import sharded

from clim_jax.selection.search import exact


def _bank():
  """2,003 rows in clusters, a tenth of them copies: ties everywhere."""
  rng = np.random.default_rng(1)
  x = rng.normal(size=(30, 24))[rng.integers(0, 30, 2003)]
  x += 0.5 * rng.normal(size=x.shape)
  x[rng.integers(0, 2003, 200)] = x[rng.integers(0, 2003, 200)]
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def on_one_device():
  return select_in_process.select(_bank(), sharded.mesh(1), 0)


@pytest.mark.parametrize(
  ("devices", "tile"),
  [
    (8, 64),
    pytest.param(3, 2048, marks=pytest.mark.slow),
    pytest.param(2, 64, marks=pytest.mark.slow),
    pytest.param(4, 2048, marks=pytest.mark.slow),
  ],
)
def test_positives_are_the_same_on_any_number_of_devices(
  devices, tile, on_one_device, monkeypatch
):
  monkeypatch.setattr(exact, "_TILE_ON_CPU", tile)
  found = select_in_process.select(_bank(), sharded.mesh(devices), 0)
  for a, b in zip(found, on_one_device, strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.slow  # another job of two processes: evaluate/test_evaluations.py
def test_positives_are_the_same_in_two_processes_of_two_devices(
  on_one_device, tmp_path
):
  np.save(tmp_path / "bank.npy", _bank())
  files = [tmp_path / "bank.npy", tmp_path / "found.npz"]
  processes.run_together(
    lambda port, process: [select_in_process.__file__, port, 2, process, *files],
    processes=2,
    devices=2,
  )
  found = list(np.load(tmp_path / "found.npz").values())
  for a, b in zip(found[:5], on_one_device, strict=True):
    np.testing.assert_array_equal(a, b)
  four = select_in_process.select(_bank(), sharded.mesh(4), 3)
  for a, b in zip(found[5:], four, strict=True):
    np.testing.assert_array_equal(a, b)
