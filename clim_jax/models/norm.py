"""Batch normalisation over groups of the batch."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

# Rows that a CPU's `row_sums` adds up at once. XLA vectorises reductions this short;
# longer ones become loops over single numbers, those of the gradient's terms sooner.
_FORWARD_ROWS, _BACKWARD_ROWS = 16, 8
RowSums = Callable[[int, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


class GroupedBatchNorm(nn.Module):
  """Batch normalisation whose statistics are taken within groups of rows.

  MoCo's shuffled batch normalisation needs several groups. Here their number
  belongs to the model, not to the machine: one device with eight groups
  computes what eight devices with one group each compute.

  The batch is cut into `groups` runs of consecutive rows. The running
  statistics follow the mean over groups. Statistics are float32 throughout.
  """

  groups: int
  row_sums: RowSums  # as `row_sums`
  dtype: Any
  momentum: float = 0.9
  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """[B, ..., C] → [B, ..., C]; B must divide by `groups` when training."""
    channels = x.shape[-1]
    scale = self.param("scale", nn.initializers.ones, (channels,))
    bias = self.param("bias", nn.initializers.zeros, (channels,))
    running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
    running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
    if not train:
      factor = scale * lax.rsqrt(running_var.value + self.epsilon)
      return _affine(x, factor, bias - running_mean.value * factor, self.dtype)

    grouped = x.reshape(self.groups, -1, channels)
    out, mean, var = _normalise(
      self.row_sums, self.epsilon, self.dtype, grouped, scale, bias
    )
    if not self.is_initializing():
      keep = self.momentum
      running_mean.value = keep * running_mean.value + (1 - keep) * mean.mean(axis=0)
      running_var.value = keep * running_var.value + (1 - keep) * var.mean(axis=0)
    return out.reshape(x.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _normalise(
  row_sums: RowSums,
  epsilon: float,
  dtype: Any,
  x: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Rows of each group, [G, R, C], normalised; and their mean and variance, [G, C].

  No gradient flows through the mean and the variance that are returned.
  """
  wide = x.astype(jnp.float32)
  mean, squares = (
    total / x.shape[1] for total in row_sums(_FORWARD_ROWS, wide, wide * wide)
  )
  var = jnp.maximum(squares - mean * mean, 0.0)
  factor = scale[None] * lax.rsqrt(var + epsilon)
  shift = bias[None] - mean * factor
  return _affine(x, factor[:, None], shift[:, None], dtype), mean, var


def _forward(
  row_sums: RowSums,
  epsilon: float,
  dtype: Any,
  x: jax.Array,
  scale: jax.Array,
  bias: jax.Array,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, ...]]:
  out, mean, var = _normalise(row_sums, epsilon, dtype, x, scale, bias)
  return (out, mean, var), (x, scale, mean, lax.rsqrt(var + epsilon))


def _backward(
  row_sums: RowSums,
  epsilon: float,
  dtype: Any,
  saved: tuple[jax.Array, ...],
  gradients: tuple[jax.Array, jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """In closed form, by two passes over the rows: Ioffe and Szegedy 2015, section 3."""
  x, scale, mean, inverse = saved
  gradient = gradients[0].astype(jnp.float32)
  centered = x.astype(jnp.float32) - mean[:, None]
  to_bias, products = row_sums(_BACKWARD_ROWS, gradient, gradient * centered)
  to_scale = products * inverse
  factor, rows = scale[None] * inverse, x.shape[1]
  slope = -factor * inverse * to_scale / rows
  shift = -factor * to_bias / rows
  to_x = gradient * factor[:, None] + (centered * slope[:, None] + shift[:, None])
  return to_x.astype(x.dtype), to_scale.sum(axis=0), to_bias.sum(axis=0)


_normalise.defvjp(_forward, _backward)


def row_sums(
  _: int, first: jax.Array, second: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Both, [G, R, C], summed over axis 1."""
  return first.sum(axis=1), second.sum(axis=1)


def _affine(x: jax.Array, factor: jax.Array, shift: jax.Array, dtype: Any) -> jax.Array:
  """x·factor + shift, broadcast from the right."""
  lift = (1,) * (x.ndim - factor.ndim)
  factor, shift = factor.reshape(lift + factor.shape), shift.reshape(lift + shift.shape)
  return (x * factor + shift).astype(dtype)
