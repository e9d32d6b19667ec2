"""Max-pooling and its gradient, against loops by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clim_jax.models.pooling import gathering_max_pool, max_pool

SHAPES = [(8, 8), (7, 7), (6, 7), (2, 2), (1, 1), (1, 4)]


def _images(shape, dtype=np.float32):
  # Few values, so that windows have several largest pixels, as after a ReLU.
  rng = np.random.default_rng(0)
  return rng.integers(-2, 3, (2, *shape, 3)).astype(dtype)


def _reference(images, gradient):
  """The largest pixel of each window, and its gradient put where the first of it is."""
  out, to_images = np.empty_like(gradient), np.zeros_like(images)
  for place in np.ndindex(gradient.shape):
    batch, row, column, channel = place
    top, left = max(2 * row - 1, 0), max(2 * column - 1, 0)
    window = images[batch, top : 2 * row + 2, left : 2 * column + 2, channel]
    first = np.unravel_index(np.argmax(window), window.shape)
    out[place] = window[first]
    to_images[batch, top + first[0], left + first[1], channel] += gradient[place]
  return out, to_images


@pytest.mark.parametrize("pool", [max_pool, gathering_max_pool])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_windows_gradient_goes_to_its_first_largest_pixel(shape, pool):
  images = _images(shape)
  out, pull_back = jax.vjp(pool, images)
  gradient = np.random.default_rng(1).normal(size=out.shape).astype(np.float32)
  expected, to_images = _reference(images, gradient)
  np.testing.assert_array_equal(out, expected)
  np.testing.assert_allclose(pull_back(gradient)[0], to_images, atol=1e-6)


def test_where_gradients_are_gathered_nothing_is_scattered():
  def scatters(pool):
    gradient = jax.jit(jax.grad(lambda x: pool(x).sum()))
    return " scatter(" in gradient.lower(_images((8, 8))).compile().as_text()

  assert scatters(max_pool)
  assert not scatters(gathering_max_pool)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_gathered_gradient_is_that_of_xla(dtype):
  images = jnp.asarray(_images((7, 6)), dtype)
  out, pull_back = jax.vjp(gathering_max_pool, images)
  gradient = jnp.asarray(_images(out.shape[1:3]), dtype)  # whose sums are exact
  found = pull_back(gradient)[0]
  assert (out.dtype, found.dtype) == (dtype, dtype)
  expected = jax.vjp(max_pool, images)[1](gradient)[0]
  np.testing.assert_array_equal(found, expected)
