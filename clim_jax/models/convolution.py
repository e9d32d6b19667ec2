"""Convolution that is fast on a CPU too; TPU and GPU get XLA's own."""

import functools
from typing import Any

import flax.linen as nn
import jax
from jax import lax

from clim_jax.models.cpu import convolution as cpu_convolution
from clim_jax.models.cpu.convolution import xla_convolve

# Fan-out keeps the variance of the gradients, as in the ResNet paper's code.
_KERNEL_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal")


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
  return lax.platform_dependent(
    images,
    kernel,
    cpu=functools.partial(cpu_convolution.convolve, stride),
    default=functools.partial(xla_convolve, stride),
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
    cpu=functools.partial(cpu_convolution.gradients, stride),
    default=functools.partial(_gradients, stride),
  )


_convolve.defvjp(_forward, _backward)


def _gradients(
  stride: int, images: jax.Array, kernel: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
  _, pull_back = jax.vjp(functools.partial(xla_convolve, stride), images, kernel)
  return pull_back(gradient)
