"""Convolution and its gradients, against XLA's own and against loops by hand."""

import functools
import timeit

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clim_jax.models.convolution import Conv, convolve
from clim_jax.models.cpu import convolution as cpu_convolution

# Kernel side and stride; sides that the stride divides and that it does not.
CASES = [(1, 1, 8), (1, 2, 8), (1, 2, 7), (3, 1, 6), (3, 2, 8), (3, 2, 7), (7, 2, 9)]
CASES += [(3, 3, 8), (5, 3, 7), (1, 3, 7)]
# Images smaller than the kernel, for which zeros are put around them on a CPU.
CASES += [(3, 1, 1), (3, 1, 2), (3, 2, 2), (3, 4, 2), (5, 1, 3), (7, 2, 4)]
BOTH = pytest.mark.parametrize("convolve", [convolve, cpu_convolution.convolve])


def _inputs(side, size):
  rng = np.random.default_rng(0)
  images = rng.normal(size=(2, size, size, 3)).astype(np.float32)
  kernel = rng.normal(size=(side, side, 3, 4)).astype(np.float32)
  return images, kernel


def _reference(images, kernel, stride):
  """A sum over the kernel's pixels, in float64."""
  side = len(kernel)
  around = [(side // 2, side // 2)] * 2
  padded = np.pad(images.astype(np.float64), [(0, 0), *around, (0, 0)])
  steps = range(0, images.shape[1], stride)
  out = np.zeros((len(images), len(steps), len(steps), kernel.shape[-1]))
  for row, top in enumerate(steps):
    for column, left in enumerate(steps):
      patch = padded[:, top : top + side, left : left + side]
      out[:, row, column] = np.tensordot(patch, kernel, 3)
  return out


@BOTH
@pytest.mark.parametrize(("side", "stride", "size"), CASES)
def test_it_is_the_sum_over_the_pixels_under_the_kernel(side, stride, size, convolve):
  images, kernel = _inputs(side, size)
  found = convolve(stride, images, kernel)
  np.testing.assert_allclose(found, _reference(images, kernel, stride), atol=1e-4)


@BOTH
@pytest.mark.parametrize(("side", "stride", "size"), CASES)
def test_gradients_are_the_adjoint_of_the_sum(side, stride, size, convolve):
  # <g, conv(x, k)> is linear in x and in k; its derivatives give it back.
  images, kernel = _inputs(side, size)
  out = _reference(images, kernel, stride)
  weight = np.random.default_rng(1).normal(size=out.shape).astype(np.float32)
  _, pull_back = jax.vjp(functools.partial(convolve, stride), images, kernel)
  found = pull_back(weight)
  other_images, other_kernel = (x + 0.5 for x in _inputs(side, size))
  for gradient, varied, expected in (
    (found[0], other_images, np.sum(weight * _reference(other_images, kernel, stride))),
    (found[1], other_kernel, np.sum(weight * _reference(images, other_kernel, stride))),
  ):
    assert gradient.shape == varied.shape
    assert np.sum(np.float64(gradient) * varied) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow  # compares times: the machine must be quiet
def test_images_smaller_than_the_kernel_are_not_slower():
  # 2 × 2 should take a quarter of the time of 4 × 4; without the zeros it is eight
  # times as much.
  def seconds(size):
    images, kernel = jnp.ones((16, size, size, 512)), jnp.ones((3, 3, 512, 512))

    @jax.jit
    def both(images, kernel):
      out, pull_back = jax.vjp(
        functools.partial(cpu_convolution.convolve, 1), images, kernel
      )
      return pull_back(out)

    def run():
      jax.block_until_ready(both(images, kernel))

    return min(timeit.repeat(run, run, number=1, repeat=5))

  assert seconds(2) < 2 * seconds(4)


@BOTH
def test_half_precision_stays_what_it_is(convolve):
  images, kernel = (x.astype(jnp.bfloat16) for x in _inputs(3, 6))
  out, pull_back = jax.vjp(functools.partial(convolve, 2), images, kernel)
  assert {x.dtype for x in (out, *pull_back(out))} == {jnp.dtype(jnp.bfloat16)}


def test_a_layer_computes_in_its_dtype_with_float32_parameters():
  layer = Conv(5, 3, 2, convolve, jnp.bfloat16)
  images = jnp.ones((2, 7, 7, 3))
  variables = layer.init(jax.random.key(0), images)
  assert variables["params"]["kernel"].dtype == jnp.float32
  assert variables["params"]["kernel"].shape == (3, 3, 3, 5)
  out = layer.apply(variables, images)
  assert (out.shape, out.dtype) == ((2, 4, 4, 5), jnp.bfloat16)


@pytest.mark.parametrize(("side", "stride"), [(8, 1), (8, 2), (7, 2)])
def test_convolutions_pad_both_sides_alike(side, stride):
  # As PyTorch; "SAME" would pad an even map less at the start than at the end.
  conv = Conv(1, 3, stride, convolve, jnp.float32)
  kernel = np.zeros((3, 3, 1, 1), np.float32)
  kernel[1, 1] = 1  # so that the output is the pixels under the kernel's middle
  image = np.arange(side * side, dtype=np.float32).reshape(1, side, side, 1)
  out = conv.apply({"params": {"kernel": kernel}}, image)
  np.testing.assert_array_equal(out, image[:, ::stride, ::stride])


def test_kernels_keep_the_variance_of_gradients():
  conv = Conv(16, 3, 1, convolve, jnp.float32)
  variables = jax.jit(conv.init)(jax.random.key(0), jnp.zeros((1, 4, 4, 32)))
  kernel = np.asarray(variables["params"]["kernel"])
  # Kaiming's normal, fan-out: variance 2 / (9 · 16); 4608 draws, to a tenth.
  assert kernel.shape == (3, 3, 32, 16)
  assert kernel.var() == pytest.approx(2 / (9 * 16), rel=0.1)
