"""What is computed apart, in the compiled program of a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clim_jax.models.cpu.convolution import convolve
from clim_jax.models.cpu.fusion import apart


def test_a_function_apart_is_the_function():
  x = np.arange(12, dtype=np.float32).reshape(3, 4)
  np.testing.assert_array_equal(apart(lambda x: x.T * 2, x), x.T * 2)


@pytest.mark.slow  # reads the program as one jaxlib compiles it
def test_what_computes_the_operand_is_not_computed_within():
  def largest(x):
    return jnp.max(apart(lambda x: x[::2] + x[1::2], jnp.sin(x)))

  text = jax.jit(largest).lower(jnp.ones(64)).compile().as_text()
  within = next(part for part in text.split("\n\n") if "slice(" in part)
  assert "sine(" in text
  assert "sine(" not in within
  assert "call(" in text


@pytest.mark.slow  # reads the program as one jaxlib compiles it
def test_nothing_is_fused_into_the_transposes_of_a_kernel_gradient():
  # Fused, they take several times as long; see docs/notebook/performance.md.
  rng = np.random.default_rng(0)
  images = rng.normal(size=(2, 8, 8, 3)).astype(np.float32)
  kernel = rng.normal(size=(3, 3, 3, 4)).astype(np.float32)

  def loss(kernel):
    hidden = jax.nn.relu(convolve(1, images, kernel) * 2)
    return jnp.sum(convolve(1, hidden, kernel[:, :, :1].repeat(4, 2)))

  text = jax.jit(jax.grad(loss)).lower(kernel).compile().as_text()
  assert 'inlineable="false"' in text
  assert "call(" in text
