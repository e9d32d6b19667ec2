"""Named random streams: root → name → step → row."""

import zlib

import jax
import jax.numpy as jnp


def stream(root: jax.Array, name: str) -> jax.Array:
  """The stream `name` of a root PRNG key; other names give unrelated streams."""
  return jax.random.fold_in(root, zlib.crc32(name.encode()))


def per_row(rng: jax.Array, rows: jax.Array) -> jax.Array:
  """One PRNG key for each global row, [B] int32 → [B] keys.

  Keyed by the row's place in the global batch, so that a row draws the same
  numbers on one device and on eight.
  """
  return jax.vmap(lambda row: jax.random.fold_in(rng, row))(jnp.asarray(rows))
