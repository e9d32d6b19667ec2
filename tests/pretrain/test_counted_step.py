"""What a step costs, against counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clim_jax.pretrain.counted_step import CountedStep, peak_flops


def test_a_product_of_matrices_has_two_flop_a_multiplication():
  step = CountedStep(jax.jit(lambda x, y: x @ y))
  x, y = jnp.ones((16, 32)), jnp.ones((32, 8))
  np.testing.assert_array_equal(step(x, y), x @ y)
  assert step.flops == 2 * 16 * 32 * 8


def test_each_structure_is_compiled_once_and_has_its_own_count():
  traced = []

  def double(pair):
    traced.append(None)
    return sum(x @ x for x in pair if x is not None)

  step, x = CountedStep(jax.jit(double)), jnp.ones((8, 8))
  counts = []
  for pair in ((x, None), (x, x), (x, None), (x, x)):
    step(pair)
    counts.append(step.flops)
  assert len(traced) == 2
  assert counts[:2] == counts[2:]
  assert counts[1] == 2 * counts[0]


@pytest.mark.parametrize(
  ("kind", "teraflops"),
  [
    ("TPU v5 lite", 197),
    ("TPU v5p", 459),
    ("NVIDIA H100 80GB HBM3", 989),
    ("NVIDIA H100 PCIe", 756),
  ],
)
def test_a_chip_is_known_by_how_its_name_begins(kind, teraflops):
  assert peak_flops(kind) == teraflops * 1e12


def test_an_unknown_device_has_no_peak():
  assert peak_flops("cpu") is None


def test_only_a_new_structure_is_to_be_compiled():
  step, x = CountedStep(jax.jit(lambda pair: pair[0])), jnp.ones(2)
  assert not step.knows((x, None))
  step((x, None))
  assert step.knows((x, None))
  assert not step.knows((x, x))
