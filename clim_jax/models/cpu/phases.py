"""Maps by their phases: the pixels of the same row and column modulo a stride."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def interleaved(phases: Sequence[Sequence[jax.Array]]) -> jax.Array:
  """[B, h, w, C] of each row and column phase → [B, h · stride, w · stride, C]."""
  rows = [jnp.stack(columns, axis=3) for columns in phases]  # [B, h, w, stride, C]
  batch, height, width, stride, channels = rows[0].shape
  whole = jnp.stack(rows, axis=2)  # [B, h, stride, w, stride, C]
  return whole.reshape(batch, height * stride, width * stride, channels)
