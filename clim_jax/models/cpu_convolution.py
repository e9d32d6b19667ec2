"""Convolution and its gradients on a CPU: which way, and in which layout.

`docs/performance.md` has the measurements.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from clim_jax.models import winograd
from clim_jax.models.fusion import apart

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def xla_convolve(stride: int, images: jax.Array, kernel: jax.Array) -> jax.Array:
  """[B, H, W, I] and [S, S, I, O] → [B, ⌈H / stride⌉, ⌈W / stride⌉, O]; S is odd."""
  return lax.conv_general_dilated(
    images,
    kernel,
    window_strides=(stride, stride),
    padding=[(side // 2, side // 2) for side in kernel.shape[:2]],
    dimension_numbers=_DIMENSIONS,
  )


def convolve(stride: int, images: jax.Array, kernel: jax.Array) -> jax.Array:
  """As `xla_convolve`."""
  if _by_winograd(stride, images, kernel):
    return winograd.convolve(images, kernel)
  return xla_convolve(stride, images, kernel)


def gradients(
  stride: int, images: jax.Array, kernel: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Of Σ gradient · convolve(...), by the images and by the kernel."""
  if _by_winograd(stride, images, kernel):
    to_images = winograd.image_gradient(gradient, kernel)
    return to_images, winograd.kernel_gradient(images, gradient)
  to_images = _image_gradient(stride, images.shape, kernel, gradient)
  return to_images, _kernel_gradient(stride, images, len(kernel), gradient)


def _by_winograd(stride: int, images: jax.Array, kernel: jax.Array) -> bool:
  # Its sums of six terms of different sizes are for float32, not for bfloat16.
  fits = stride == 1 and len(kernel) == 3 and images.dtype == jnp.float32
  return fits and winograd.pays(images.shape, kernel.shape[-1])


def _image_gradient(
  stride: int, shape: tuple[int, ...], kernel: jax.Array, gradient: jax.Array
) -> jax.Array:
  """A convolution for each phase: the pixels of the same row and column modulo stride.

  A phase sees its own part of the kernel only. XLA's single convolution, of a gradient
  with zeros in between, multiplies every pixel by the whole kernel.
  """
  turned = _transposed((0, 1, 3, 2), kernel)[::-1, ::-1]
  phases = [
    jnp.stack(
      [_phase(stride, (row, column), turned, gradient) for column in range(stride)],
      axis=3,
    )
    for row in range(stride)
  ]
  batch, height, width, _, channels = phases[0].shape
  whole = jnp.stack(phases, axis=2)  # [B, H / stride, stride, W / stride, stride, I]
  whole = whole.reshape(batch, height * stride, width * stride, channels)
  return whole[:, : shape[1], : shape[2]]


def _phase(
  stride: int, phase: tuple[int, int], turned: jax.Array, gradient: jax.Array
) -> jax.Array:
  """The pixels at `phase`, [B, h, w, I], of a gradient [B, h, w, O].

  A pixel at stride · a + phase, plus half the kernel, is stride · b + p for an output b
  and a kernel pixel p: so p has one remainder, and b falls as p rises.
  """
  side, before = len(turned), len(turned) // 2
  parts, padding = [], []
  for start in phase:
    later, first = divmod(start + before, stride)  # b - a for the first p
    pixels = range(first, side, stride)
    if not pixels:
      return jnp.zeros((*gradient.shape[:3], turned.shape[-1]), gradient.dtype)
    parts.append(slice(side - 1 - pixels[-1], side - first, stride))  # it is turned
    padding.append((len(pixels) - 1 - later, later))
  return lax.conv_general_dilated(
    gradient, turned[tuple(parts)], (1, 1), padding, dimension_numbers=_DIMENSIONS
  )


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
