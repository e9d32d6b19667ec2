"""Maps by their phases."""

import numpy as np
import pytest

from clim_jax.models.cpu.phases import interleaved


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_the_phases_of_a_map_give_it_back(stride):
  images = np.random.default_rng(0).normal(size=(2, 6, 12, 3)).astype(np.float32)
  steps = range(stride)
  phases = [[images[:, row::stride, col::stride] for col in steps] for row in steps]
  np.testing.assert_array_equal(interleaved(phases), images)
