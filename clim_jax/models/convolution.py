"""A convolution layer, and XLA's own convolution."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax import lax

# Fan-out keeps the variance of the gradients, as in the ResNet paper's code.
_KERNEL_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal")


class Conv(nn.Module):
  """A square convolution without bias, padded as PyTorch's, so that weights travel."""

  features: int
  side: int  # of the kernel, odd
  stride: int
  convolve: Callable[[int, jax.Array, jax.Array], jax.Array]  # as `convolve`
  dtype: Any

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """[B, H, W, I] → [B, ⌈H / stride⌉, ⌈W / stride⌉, features]."""
    shape = (self.side, self.side, images.shape[-1], self.features)
    kernel = self.param("kernel", _KERNEL_INIT, shape)
    return self.convolve(
      self.stride, images.astype(self.dtype), kernel.astype(self.dtype)
    )


def convolve(stride: int, images: jax.Array, kernel: jax.Array) -> jax.Array:
  """[B, H, W, I] and [S, S, I, O] → [B, ⌈H / stride⌉, ⌈W / stride⌉, O]; S is odd."""
  return lax.conv_general_dilated(
    images,
    kernel,
    window_strides=(stride, stride),
    padding=padding(kernel),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def padding(kernel: jax.Array) -> list[tuple[int, int]]:
  """Pixels before and after, along each axis, of a kernel [S, S, I, O]."""
  return [(side // 2, side // 2) for side in kernel.shape[:2]]
