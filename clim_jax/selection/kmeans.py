"""Spherical k-means on a row-sharded bank."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from clim_jax.models.encoder import unit_norm
from clim_jax.selection.blocks import map_row_blocks
from clim_jax.sharding import AXIS, row_offset

_BLOCK = 4096  # rows whose [rows, C] similarities exist at once


class Clustering(NamedTuple):
  centers: jax.Array  # unit-norm, replicated, [C, D] float32
  assignment: jax.Array  # nearest center of each row, rows sharded, [N_pad] int32
  closeness: jax.Array  # cosine to that center, rows sharded, [N_pad] float32


def spherical_kmeans(
  rng: jax.Array,
  bank: jax.Array,
  *,
  num_images: int,
  num_centers: int,
  iterations: int,
) -> Clustering:
  """Lloyd's iterations with unit centers; to be mapped over the axis "data".

  Starts from distinct random rows. An empty cluster is moved onto the row that
  lies furthest from its own center.

  Args:
    rng: PRNG key, the same on every replica.
    bank: this replica's rows, unit-norm, [N_pad / devices, D] float32.
    num_images: N; global rows from N on are padding.
    num_centers: C ≤ N.
    iterations: number of center updates.

  Returns:
    The clustering; `assignment` and `closeness` are this replica's rows.

  Reference: Dhillon & Modha 2001, "Concept decompositions for large sparse text
  data using clustering".
  """
  valid = row_offset(bank.shape[0]) + jnp.arange(bank.shape[0]) < num_images
  seeds = jax.random.permutation(rng, num_images)[:num_centers]
  centers = _gather_rows(bank, seeds)

  def iterate(_: jax.Array, centers: jax.Array) -> jax.Array:
    assignment, closeness = assign(bank, centers)
    return _update(bank, valid, assignment, closeness, num_centers)

  centers = lax.fori_loop(0, iterations, iterate, centers)
  return Clustering(centers, *assign(bank, centers))


def assign(bank: jax.Array, centers: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Nearest center of each row and the cosine to it; the lower index wins a tie."""

  def block(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    similarity = jnp.dot(rows, centers.T, precision=lax.Precision.HIGHEST)
    return jnp.argmax(similarity, -1).astype(jnp.int32), jnp.max(similarity, -1)

  return map_row_blocks(block, bank, _BLOCK)


def _gather_rows(bank: jax.Array, rows: jax.Array) -> jax.Array:
  """Global rows [C] of the sharded bank, on every replica, [C, D]."""
  local = rows - row_offset(bank.shape[0])
  here = (local >= 0) & (local < bank.shape[0])
  found = bank[jnp.clip(local, 0, bank.shape[0] - 1)]
  return lax.psum(jnp.where(here[:, None], found, 0.0), AXIS)


def _update(
  bank: jax.Array,
  valid: jax.Array,
  assignment: jax.Array,
  closeness: jax.Array,
  num_centers: int,
) -> jax.Array:
  """Normalised sums of the members, empty clusters re-seeded, [C, D]."""
  members = jnp.where(valid, assignment, num_centers)  # out of range: not summed
  sums = jax.ops.segment_sum(bank, members, num_centers)
  counts = jnp.bincount(members, length=num_centers)
  sums, counts = lax.psum((sums, counts), AXIS)

  outliers = _furthest_rows(jnp.where(valid, closeness, jnp.inf), num_centers)
  empty = counts == 0
  turn = jnp.cumsum(empty) - 1  # the e-th empty cluster takes the e-th outlier
  reseeded = _gather_rows(bank, outliers[jnp.maximum(turn, 0)])
  return jnp.where(empty[:, None], reseeded, unit_norm(sums))


def _furthest_rows(closeness: jax.Array, count: int) -> jax.Array:
  """Global rows of the least closeness, furthest first, [count] int32."""
  local = min(count, closeness.shape[0])
  distance, rows = lax.top_k(-closeness, local)
  rows = rows + row_offset(closeness.shape[0])
  distance, rows = lax.all_gather((distance, rows), AXIS, tiled=True, to="invarying")
  _, best = lax.top_k(distance, count)
  return rows[best]
