"""Convolution whose gradient is fast on a CPU too; TPU and GPU get XLA's own."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

# Fan-out keeps the variance of the gradients, as in the ResNet paper's code.
_KERNEL_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal")
_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


class Conv(nn.Module):
  """A square convolution without bias, padded as PyTorch's, so that weights travel."""

  features: int
  side: int  # of the kernel, odd
  stride: int
  dtype: Any

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """[B, H, W, I] → [B, ⌈H / stride⌉, ⌈W / stride⌉, features]."""
    shape = (self.side, self.side, images.shape[-1], self.features)
    kernel = self.param("kernel", _KERNEL_INIT, shape)
    return convolve(
      images.astype(self.dtype), kernel.astype(self.dtype), stride=self.stride
    )


def convolve(images: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
  """[B, H, W, I] and [S, S, I, O] → [B, ⌈H / stride⌉, ⌈W / stride⌉, O]; S is odd."""
  return _convolve(stride, images, kernel)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolve(stride: int, images: jax.Array, kernel: jax.Array) -> jax.Array:
  return _xla_convolve(stride, images, kernel)


def _xla_convolve(stride: int, images: jax.Array, kernel: jax.Array) -> jax.Array:
  return lax.conv_general_dilated(
    images,
    kernel,
    window_strides=(stride, stride),
    padding=[(side // 2, side // 2) for side in kernel.shape[:2]],
    dimension_numbers=_DIMENSIONS,
  )


def _forward(
  stride: int, images: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return _convolve(stride, images, kernel), (images, kernel)


def _backward(
  stride: int, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Gradients of the images and of the kernel."""
  return lax.platform_dependent(
    *saved,
    gradient,
    cpu=functools.partial(_gradients_on_cpu, stride),
    default=functools.partial(_gradients, stride),
  )


_convolve.defvjp(_forward, _backward)


def _gradients(
  stride: int, images: jax.Array, kernel: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
  _, pull_back = jax.vjp(functools.partial(_xla_convolve, stride), images, kernel)
  return pull_back(gradient)


def _gradients_on_cpu(
  stride: int, images: jax.Array, kernel: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """The same convolutions, with their operands transposed on their own.

  XLA fuses what computes an operand, such as batch normalisation, into its transpose,
  and then computes it along strides of megabytes.
  """
  side, height, out_height = kernel.shape[0], images.shape[1], gradient.shape[1]
  before, extent = side // 2, (out_height - 1) * stride + 1
  if side == 1 and stride > 1:  # all other pixels are neither read nor moved
    seen = images[:, ::stride, ::stride]
    to_seen, to_kernel = _gradients_on_cpu(1, seen, kernel, gradient)
    between = (0, height - extent, stride - 1)
    zero = jnp.zeros((), to_seen.dtype)
    return lax.pad(to_seen, zero, ((0, 0, 0), between, between, (0, 0, 0))), to_kernel
  to_images = lax.conv_general_dilated(
    gradient,
    _transposed((0, 1, 3, 2), kernel)[::-1, ::-1],
    window_strides=(1, 1),
    padding=[(side - 1 - before, height + before - extent)] * 2,
    lhs_dilation=(stride, stride),
    dimension_numbers=_DIMENSIONS,
  )
  to_kernel = lax.conv_general_dilated(
    _transposed((3, 1, 2, 0), images),
    _transposed((1, 2, 0, 3), gradient),
    window_strides=(1, 1),
    padding=[(before, extent + side - 1 - before - height)] * 2,
    rhs_dilation=(stride, stride),
    dimension_numbers=_DIMENSIONS,
  )
  return to_images, jnp.transpose(to_kernel, (1, 2, 0, 3))  # from [I, S, S, O]


def _transposed(axes: tuple[int, ...], x: jax.Array) -> jax.Array:
  """A transpose that nothing is fused into: XLA does not inline it."""
  transpose = functools.partial(jnp.transpose, axes=axes)
  with set_xla_metadata(inlineable="false"):
    return jax.jit(transpose)(x)
