"""Similarities of two tiles: in float32, or in bfloat16 and in float32 for the hits.

A bfloat16 product costs a small part of a float32 one on an accelerator, but its
cosines are off by up to the slack. So a cosine is a hit already if it comes within
the slack of the bound, and the hits alone are computed anew in float32: lists hold
nothing but float32 cosines, and no candidate of theirs is missed.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from clim_jax.sharding import AXIS

SCORINGS = ("float32", "bfloat16")


def slack_of(bank: jax.Array, scoring: str) -> jax.Array:
  """How far a bfloat16 cosine can be off, []; 0 for float32; mapped over "data".

  With x = x̂ + u, where x̂ is x in bfloat16, and ‖x‖ = 1, Cauchy and Schwarz bound
  |x·y − x̂·ŷ| = |u·y + x̂·v| by ‖u‖ + (1 + ‖u‖)·‖v‖. To this comes what D additions
  in float32 may round, in the product and in the float32 cosine.
  """
  if scoring == "float32":
    return jnp.float32(0)
  # A cast to bfloat16 and back would be compiled away.
  lost = bank - lax.reduce_precision(bank, exponent_bits=8, mantissa_bits=7)
  most = lax.pmax(jnp.linalg.norm(lost, axis=1).max(), AXIS)
  rounding = 2 * bank.shape[1] * jnp.finfo(jnp.float32).eps
  return most * (2 + most) + rounding


def similarities(
  rows: jax.Array, columns: jax.Array, scoring: str
) -> tuple[jax.Array, Callable[[jax.Array, jax.Array], jax.Array]]:
  """Cosines to look for hits among, and the float32 cosines of single pairs.

  Args:
    rows: unit-norm, [R, D] float32.
    columns: likewise, [C, D].
    scoring: one of `SCORINGS`.

  Returns:
    Cosines up to the slack, [R, C] float32; and a function of as many rows and
    columns, [K] and [K], → [K].
  """
  if scoring == "float32":
    fine = jnp.dot(rows, columns.T, precision=lax.Precision.HIGHEST)
    return fine, lambda row, column: fine[row, column]
  coarse = jnp.dot(
    rows.astype(jnp.bfloat16),
    columns.astype(jnp.bfloat16).T,
    preferred_element_type=jnp.float32,
  )
  return coarse, lambda row, column: cosines(rows[row], columns[column])


def cosines(x: jax.Array, y: jax.Array) -> jax.Array:
  """Cosines of unit rows [K, D] and [K, D] one by one, [K] float32.

  Additions are made in one order, halves upon halves. That of a product of matrices
  changes with their shapes, and so with the number of devices, in the last bit.
  """
  # Clipping changes no product of unit rows, but keeps it from being fused with an
  # addition, which rounds otherwise in places that the compiler chooses.
  values = (x * y).clip(-1.0, 1.0)
  while values.shape[1] > 1:
    half = -(-values.shape[1] // 2)
    values = jnp.pad(values, ((0, 0), (0, 2 * half - values.shape[1])))
    values = values[:, :half] + values[:, half:]
  return values[:, 0]
