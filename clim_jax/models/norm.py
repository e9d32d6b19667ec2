"""Batch normalisation over groups of the batch."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


class GroupedBatchNorm(nn.Module):
  """Batch normalisation whose statistics are taken within groups of rows.

  MoCo's shuffled batch normalisation needs several groups. Here their number
  belongs to the model, not to the machine: one device with eight groups
  computes what eight devices with one group each compute.

  The batch is cut into `groups` runs of consecutive rows. The running
  statistics follow the mean over groups. Statistics are float32 throughout.
  """

  groups: int
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
    wide = grouped.astype(jnp.float32)
    mean = jnp.mean(wide, axis=1)
    var = jnp.maximum(jnp.mean(wide * wide, axis=1) - mean * mean, 0.0)
    if not self.is_initializing():
      keep = self.momentum
      running_mean.value = keep * running_mean.value + (1 - keep) * mean.mean(axis=0)
      running_var.value = keep * running_var.value + (1 - keep) * var.mean(axis=0)
    factor = scale[None] * lax.rsqrt(var + self.epsilon)
    shift = bias[None] - mean * factor
    out = _affine(grouped, factor[:, None], shift[:, None], self.dtype)
    return out.reshape(x.shape)


def _affine(x: jax.Array, factor: jax.Array, shift: jax.Array, dtype: Any) -> jax.Array:
  """x·factor + shift, broadcast from the right."""
  lift = (1,) * (x.ndim - factor.ndim)
  factor, shift = factor.reshape(lift + factor.shape), shift.reshape(lift + shift.shape)
  return (x * factor + shift).astype(dtype)
