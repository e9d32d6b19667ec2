"""Winograd's filtering against sums by hand, and where it is used."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clim_jax import sharding
from clim_jax.models.cpu import winograd
from clim_jax.models.cpu.convolution import convolve
from clim_jax.models.encoder import Encoder
from clim_jax.models.operations import FOR_CPU

# Images, height, width, channels in and out; maps of one tile and of several.
SHAPES = [(3, 4, 4, 5, 3), (2, 8, 12, 4, 6), (1, 16, 4, 1, 1)]


def _drawn(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def _summed(images, kernel):
  """The convolution as a sum over the kernel's pixels, in float64."""
  _, height, width, _ = images.shape
  padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)])
  return sum(
    padded[:, row : row + height, column : column + width] @ kernel[row, column]
    for row in range(3)
    for column in range(3)
  )


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_sum_over_the_pixels_under_the_kernel(shape):
  *images, channels, features = shape
  images, kernel = _drawn(*images, channels), _drawn(3, 3, channels, features, seed=1)
  found = winograd.convolve(jnp.float32(images), jnp.float32(kernel))
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, _summed(images, kernel), atol=5e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_the_adjoint_of_the_sum(shape):
  # <y', conv(x, g)> is linear in x and in g: all of its directional slopes are known.
  *sides, channels, features = shape
  images, kernel = _drawn(*sides, channels), _drawn(3, 3, channels, features, seed=1)
  slopes = _drawn(*sides, features, seed=2)
  gradients = winograd.gradients(*map(jnp.float32, (images, kernel, slopes)))
  other = _drawn(*images.shape, seed=3), _drawn(*kernel.shape, seed=4)
  known = (
    np.sum(slopes * _summed(other[0], kernel)),
    np.sum(slopes * _summed(images, other[1])),
  )
  for found, direction, expected in zip(gradients, other, known, strict=True):
    assert found.shape == direction.shape
    scale = np.linalg.norm(direction) * np.linalg.norm(found)
    assert abs(np.sum(np.float64(found) * direction) - expected) < 1e-5 * scale


def test_rounding_stays_near_that_of_float32():
  # 256 channels: 2,304 terms of an output.
  images, kernel = _drawn(2, 8, 8, 256), _drawn(3, 3, 256, 64, seed=1)
  exact = _summed(images, kernel)
  error = np.abs(winograd.convolve(jnp.float32(images), jnp.float32(kernel)) - exact)
  assert error.max() < 2e-5 * np.abs(exact).max()


def test_gradients_round_as_the_outputs_do():
  images, kernel = _drawn(2, 8, 8, 256), _drawn(3, 3, 256, 256, seed=1)
  slopes = _drawn(2, 8, 8, 256, seed=2)
  gradients = winograd.gradients(*map(jnp.float32, (images, kernel, slopes)))
  padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)])
  seen = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
  exact = (
    _summed(slopes, np.swapaxes(kernel[::-1, ::-1], 2, 3)),
    np.einsum("bhwirc,bhwo->rcio", seen, slopes, optimize=True),
  )
  for found, expected in zip(gradients, exact, strict=True):
    assert np.abs(found - expected).max() < 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
  ("shape", "features", "pays"),
  [
    # The times of these, at twice the batch: docs/notebook/performance.md.
    ((32, 16, 16, 32), 32, True),  # the default run's, and the two below
    ((32, 8, 8, 64), 64, True),
    ((32, 4, 4, 128), 128, True),
    ((8, 16, 16, 32), 32, True),
    ((8, 8, 8, 64), 64, True),
    ((8, 4, 4, 128), 128, False),
    ((32, 8, 8, 128), 128, True),
    ((32, 4, 4, 256), 256, True),
    ((32, 16, 16, 64), 64, True),
    ((128, 4, 4, 128), 128, True),
    ((128, 16, 16, 32), 32, False),
    ((32, 32, 32, 64), 64, True),
    ((32, 16, 16, 128), 128, True),
    ((32, 8, 8, 256), 256, True),
    ((32, 4, 4, 512), 512, False),
    ((128, 4, 4, 512), 512, True),
    ((32, 32, 32, 32), 32, False),
    ((32, 64, 64, 16), 16, False),
    ((32, 32, 32, 16), 16, False),
    ((32, 14, 14, 256), 256, False),  # tiles would not be whole
    ((32, 16, 14, 256), 256, False),
    ((1, 8, 8, 256), 256, False),
  ],
)
def test_it_pays_where_it_was_measured_to(shape, features, pays):
  assert winograd.pays(shape, features) is pays


@pytest.mark.slow  # reads the program as one jaxlib compiles it
def test_no_product_is_left_to_eigen():
  images, kernel = jnp.ones((64, 8, 8, 64)), jnp.ones((3, 3, 64, 64))

  def step(images, kernel):
    out, back = jax.vjp(functools.partial(convolve, 1), images, kernel)
    return out, back(out)

  options = sharding.convolution_options(sharding.make_mesh())
  compiled = jax.jit(step, compiler_options=options).lower(images, kernel).compile()
  text = compiled.as_text()
  assert winograd.pays(images.shape, 64)
  # All in what YNN gets: three, and from the kernel to its values and back.
  assert text.count(" dot(") == 3 + 2
  assert " dot(" not in text[text.index("ENTRY") :]


def _text(dtype, *, stride=1, side=3):
  images = jax.ShapeDtypeStruct((16, 16, 16, 256), dtype)
  kernel = jax.ShapeDtypeStruct((side, side, 256, 256), dtype)
  convolved = jax.jit(lambda *x: jax.vjp(functools.partial(convolve, stride), *x)[0])
  return convolved.lower(images, kernel).as_text()


def test_float32_kernels_of_3_and_stride_1_are_convolved_by_it():
  assert winograd.pays((16, 16, 16, 256), 256)
  assert "stablehlo.convolution" not in _text(jnp.float32)


@pytest.mark.parametrize(
  ("dtype", "others"),
  [(jnp.bfloat16, {}), (jnp.float32, {"stride": 2}), (jnp.float32, {"side": 1})],
)
def test_all_others_are_not(dtype, others):
  assert "stablehlo.convolution" in _text(dtype, **others)


def test_a_network_by_it_is_the_same_network(monkeypatch):
  encoder = Encoder(
    "resnet_small", "cifar", 4, 16, 8, 1, (0.5,) * 3, (0.2,) * 3, FOR_CPU, jnp.float32
  )
  images = jnp.float32(np.random.default_rng(0).uniform(size=(4, 32, 32, 3)))
  init = jax.jit(functools.partial(encoder.init, train=False))
  variables = init(jax.random.key(0), images)

  def encoded():
    def loss(params):
      out, _ = encoder.apply(
        variables | {"params": params}, images, train=True, mutable=["batch_stats"]
      )
      return jnp.sum(out.embedding @ jnp.arange(8.0)), out.embedding

    return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

  direct = encoded()
  asked = []
  monkeypatch.setattr(
    winograd, "pays", lambda shape, _: asked.append(shape) or shape[1] % 4 == 0
  )
  by_winograd = encoded()
  assert any(shape[1] % 4 == 0 for shape in asked)
  for found, expected in zip(*map(jax.tree.leaves, (by_winograd, direct)), strict=True):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=2e-4 * max(scale, 1.0))
