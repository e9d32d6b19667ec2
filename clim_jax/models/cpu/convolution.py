"""Convolution and its gradients on a CPU: which way, and in which layout.

`docs/notebook/performance.md` has the measurements.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from clim_jax.models.convolution import padding
from clim_jax.models.cpu import winograd
from clim_jax.models.cpu.fusion import apart
from clim_jax.models.cpu.phases import interleaved

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def convolve(stride: int, images: jax.Array, kernel: jax.Array) -> jax.Array:
  """As `models.convolution.convolve`, with gradients of its own."""
  if _by_winograd(stride, images, kernel):
    return winograd.convolve(images, kernel)
  return _threaded_convolve(stride, padding(kernel), images, kernel)


def _forward(
  stride: int, images: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return convolve(stride, images, kernel), (images, kernel)


def _backward(
  stride: int, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Of Σ gradient · convolve(...), by the images and by the kernel."""
  images, kernel = saved
  if _by_winograd(stride, images, kernel):
    return winograd.gradients(images, kernel, gradient)
  to_images = _image_gradient(stride, images.shape, kernel, gradient)
  return to_images, _kernel_gradient(stride, images, len(kernel), gradient)


convolve.defvjp(_forward, _backward)


def _threaded_convolve(
  stride: int, edges: list[tuple[int, int]], images: jax.Array, kernel: jax.Array
) -> jax.Array:
  """A convolution that XLA's CPU compiler hands to Eigen's threaded one.

  It does not if the kernel has more pixels than the image, and then takes up to a
  hundred times as long. Zeros that it does not know to be padding make up for it.
  """
  if math.prod(kernel.shape[:2]) > math.prod(images.shape[1:3]):
    images = apart(functools.partial(_zero_padded, ((0, 0), *edges, (0, 0))), images)
    edges = [(0, 0), (0, 0)]
  return lax.conv_general_dilated(
    images, kernel, (stride, stride), edges, dimension_numbers=_DIMENSIONS
  )


def _zero_padded(edges: tuple[tuple[int, int], ...], x: jax.Array) -> jax.Array:
  zero = jnp.zeros((), x.dtype)
  return lax.pad(x, zero, [(before, after, 0) for before, after in edges])


def _by_winograd(stride: int, images: jax.Array, kernel: jax.Array) -> bool:
  # Its sums of six terms of different sizes are for float32, not for bfloat16.
  fits = stride == 1 and len(kernel) == 3 and images.dtype == jnp.float32
  return fits and winograd.pays(images.shape, kernel.shape[-1])


def _image_gradient(
  stride: int, shape: tuple[int, ...], kernel: jax.Array, gradient: jax.Array
) -> jax.Array:
  """A convolution for each phase of the pixels.

  A phase sees its own part of the kernel only. XLA's single convolution, of a gradient
  with zeros in between, multiplies every pixel by the whole kernel.
  """
  turned = _transposed((0, 1, 3, 2), kernel)[::-1, ::-1]
  phases = [
    [_phase(stride, (row, column), turned, gradient) for column in range(stride)]
    for row in range(stride)
  ]
  return interleaved(phases)[:, : shape[1], : shape[2]]


def _phase(
  stride: int, phase: tuple[int, int], turned: jax.Array, gradient: jax.Array
) -> jax.Array:
  """The pixels at `phase`, [B, h, w, I], of a gradient [B, h, w, O].

  A pixel at stride · a + phase, plus half the kernel, is stride · b + p for an output b
  and a kernel pixel p: so p has one remainder, and b falls as p rises.
  """
  side, before = len(turned), len(turned) // 2
  parts, edges = [], []
  for start in phase:
    later, first = divmod(start + before, stride)  # b - a for the first p
    pixels = range(first, side, stride)
    if not pixels:
      return jnp.zeros((*gradient.shape[:3], turned.shape[-1]), gradient.dtype)
    parts.append(slice(side - 1 - pixels[-1], side - first, stride))  # it is turned
    edges.append((len(pixels) - 1 - later, later))
  return _threaded_convolve(1, edges, gradient, turned[tuple(parts)])


def _kernel_gradient(
  stride: int, images: jax.Array, side: int, gradient: jax.Array
) -> jax.Array:
  """As XLA's, but with its operands transposed on their own; of 1×1, a product."""
  if side == 1:
    seen = images[:, ::stride, ::stride].reshape(-1, images.shape[-1])
    gradient = gradient.reshape(-1, gradient.shape[-1])
    return lax.dot_general(seen, gradient, (((0,), (0,)), ((), ())))[None, None]
  before, extent = side // 2, (gradient.shape[1] - 1) * stride + 1
  to_kernel = lax.conv_general_dilated(
    _transposed((3, 1, 2, 0), images),
    _transposed((1, 2, 0, 3), gradient),
    window_strides=(1, 1),
    padding=[(before, extent + side - 1 - before - images.shape[1])] * 2,
    rhs_dilation=(stride, stride),
    dimension_numbers=_DIMENSIONS,
  )
  return jnp.transpose(to_kernel, (1, 2, 0, 3))  # from [I, S, S, O]


def _transposed(axes: tuple[int, ...], x: jax.Array) -> jax.Array:
  return apart(functools.partial(jnp.transpose, axes=axes), x)
