"""The queue of past keys, MoCo's negatives."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class KeyQueue(NamedTuple):
  keys: jax.Array  # unit-norm, [Q, D] float32
  position: jax.Array  # row that the next key replaces, [] int32


def init(rng: jax.Array, size: int, dim: int) -> KeyQueue:
  """A queue of random unit vectors, [size, dim]."""
  keys = jax.random.normal(rng, (size, dim))
  return KeyQueue(
    keys / jnp.linalg.norm(keys, axis=-1, keepdims=True), jnp.zeros((), jnp.int32)
  )


def enqueue(queue: KeyQueue, keys: jax.Array) -> KeyQueue:
  """Replaces the oldest rows by `keys`, [B, D] with B ≤ Q, wrapping at the end."""
  size = queue.keys.shape[0]
  rows = (queue.position + jnp.arange(keys.shape[0])) % size
  return KeyQueue(
    queue.keys.at[rows].set(keys, unique_indices=True),
    (queue.position + keys.shape[0]) % size,
  )
