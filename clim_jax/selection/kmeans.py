"""Spherical k-means on a row-sharded bank."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from clim_jax.models.encoder import unit_norm
from clim_jax.selection.search.blocks import map_row_blocks
from clim_jax.selection.search.scoring import cosines
from clim_jax.selection.seeding import gather_rows, seed_centers
from clim_jax.sharding import AXIS, row_offset, varying

_ROWS = 1024  # rows × centers whose similarities exist at once
_CENTERS = 4096


class Clustering(NamedTuple):
  centers: jax.Array  # unit-norm, replicated, [C, D] float32
  assignment: jax.Array  # nearest center of each row, rows sharded, [N_pad] int32
  closeness: jax.Array  # cosine to that center, rows sharded, [N_pad] float32


def spherical_kmeans(
  rng: jax.Array, bank: jax.Array, *, num_images: int, num_centers: int, iterations: int
) -> Clustering:
  """`lloyd` from seeds far apart; to be mapped over the axis "data".

  Args:
    rng: PRNG key, the same on every replica.
    bank: this replica's rows, unit-norm, [N_pad / devices, D] float32.
    num_images: N; global rows from N on are padding.
    num_centers: C ≤ N.
    iterations: number of center updates, at most.

  Returns:
    The clustering; `assignment` and `closeness` are this replica's rows.
  """
  centers = seed_centers(rng, bank, num_images=num_images, num_centers=num_centers)
  return lloyd(bank, centers, num_images=num_images, iterations=iterations)


def lloyd(
  bank: jax.Array, centers: jax.Array, *, num_images: int, iterations: int
) -> Clustering:
  """Lloyd's iterations with unit centers; to be mapped over the axis "data".

  They end early when no row has moved to another center.
  An empty cluster is moved onto the row that lies furthest from its own center.
  Sums of members are exact, so the result does not depend on the number of devices.

  Args:
    centers: where to start, unit-norm, replicated, [C, D] float32.
    bank, num_images, iterations, Returns: as `spherical_kmeans`.

  Reference: Dhillon & Modha 2001, "Concept decompositions for large sparse text
  data using clustering".
  """
  num_centers = len(centers)
  exist = row_offset(bank.shape[0]) + jnp.arange(bank.shape[0]) < num_images

  def update(centers: jax.Array, assignment: jax.Array) -> jax.Array:
    members = jnp.where(exist, assignment, num_centers)
    sums, counts = _sums(bank, members, num_centers, num_images)
    return lax.cond(
      jnp.any(counts == 0),
      lambda new: _reseeded(
        new, counts == 0, bank, exist, _closeness(bank, centers, assignment)
      ),
      lambda new: new,
      unit_norm(sums),
    )

  def goes_on(carry: tuple) -> jax.Array:
    number, _, _, moved = carry
    return (number < iterations) & moved

  def iterate(carry: tuple) -> tuple[jax.Array, ...]:
    number, centers, before, _ = carry
    centers = update(centers, before)
    assignment = assign(bank, centers)
    # Sums are exact: once no row moves, no center ever changes again.
    moved = jnp.any(exist & (assignment != before))
    return number + 1, centers, assignment, lax.psum(moved.astype(int), AXIS) > 0

  start = (0, centers, assign(bank, centers), jnp.bool_(True))
  _, centers, assignment, _ = lax.while_loop(goes_on, iterate, start)
  return Clustering(centers, assignment, _closeness(bank, centers, assignment))


def assign(bank: jax.Array, centers: jax.Array) -> jax.Array:
  """Nearest center of each row, [R] int32; the lower index wins a tie."""
  total = centers.shape[0]
  blocks = -(-total // _CENTERS)
  block = -(-total // blocks)
  padded = jnp.pad(centers, ((0, blocks * block - total), (0, 0)))
  by_block = padded.reshape(blocks, block, -1)
  # Centers run down and rows across: maxima are then elementwise over rows.
  indices = jnp.arange(block)[:, None]

  def nearest(rows: jax.Array) -> jax.Array:
    def compare(number: jax.Array, best: tuple) -> tuple:
      index, closeness = best
      similarity = jnp.dot(by_block[number], rows.T, precision=lax.Precision.HIGHEST)
      first = number * block
      if blocks * block != total:
        similarity = jnp.where(first + indices < total, similarity, -jnp.inf)
      greatest = similarity.max(axis=0)
      # An argmax in one pass is several times slower than these two on a CPU.
      is_greatest = similarity == greatest[None]
      here = first + jnp.where(is_greatest, indices, block).min(axis=0)
      closer = greatest > closeness
      return jnp.where(closer, here, index), jnp.where(closer, greatest, closeness)

    first_row = rows[:, 0]
    start = jnp.zeros_like(first_row, jnp.int32), jnp.full_like(first_row, -jnp.inf)
    return lax.fori_loop(0, blocks, compare, start)[0]

  return map_row_blocks(nearest, bank, _ROWS)


def _closeness(bank: jax.Array, centers: jax.Array, assignment: jax.Array) -> jax.Array:
  """Cosine of each row to its own center, the same on any number of devices, [R]."""

  def block(part: tuple[jax.Array, jax.Array]) -> jax.Array:
    rows, own = part
    return cosines(rows, centers[own])

  return map_row_blocks(block, (bank, assignment), _ROWS)


def _sums(
  rows: jax.Array, members: jax.Array, num_centers: int, at_most: int
) -> tuple[jax.Array, jax.Array]:
  """Sum and number of the rows of each center, over all replicas, [C, D] and [C].

  Floats would round differently in every order of summation. Each value is cut
  into two integers instead, whose sums are exact for `at_most` rows (or 2²² a
  center); what the cut loses, 2⁻²⁸ at 50,000 and 2⁻¹⁸ at a million rows, is the same
  everywhere.
  """
  bits = max(30 - at_most.bit_length(), 8)
  total, dim = rows.shape
  block = min(_ROWS, total)

  def add(number: jax.Array, sums: tuple) -> tuple:
    # The last block begins earlier to be whole; what it repeats is dropped.
    first = jnp.minimum(number * block, total - block)
    fresh = first + jnp.arange(block) >= number * block
    some = lax.dynamic_slice_in_dim(members, first, block)
    some = jnp.where(fresh, some, num_centers)
    scaled = lax.dynamic_slice_in_dim(rows, first, block).clip(-1.0, 1.0) * 2.0**bits
    high = jnp.floor(scaled)
    low = jnp.floor((scaled - high) * 2.0**bits)
    parts = (high, low, jnp.ones_like(some))
    return tuple(
      all_rows.at[some].add(part.astype(jnp.int32), mode="drop")
      for all_rows, part in zip(sums, parts, strict=True)
    )

  zeros = [jnp.zeros(shape, jnp.int32) for shape in ((num_centers, dim),) * 2]
  zeros = varying((*zeros, jnp.zeros(num_centers, jnp.int32)))
  sums = lax.fori_loop(0, -(-total // block), add, zeros)
  high, low, counts = lax.psum(sums, AXIS)
  whole = high.astype(jnp.float32) + low.astype(jnp.float32) * 2.0**-bits
  return whole * 2.0**-bits, counts


def _reseeded(
  centers: jax.Array,
  empty: jax.Array,
  bank: jax.Array,
  exist: jax.Array,
  closeness: jax.Array,
) -> jax.Array:
  """The e-th empty center moved onto the e-th furthest row from its own, [C, D]."""
  outliers = _furthest_rows(jnp.where(exist, closeness, jnp.inf), empty.shape[0])
  rows = gather_rows(bank, outliers[jnp.maximum(jnp.cumsum(empty) - 1, 0)])
  return jnp.where(empty[:, None], rows, centers)


def _furthest_rows(closeness: jax.Array, count: int) -> jax.Array:
  """Global rows of the least closeness, furthest first, [count] int32."""
  local = min(count, closeness.shape[0])
  distance, rows = lax.top_k(-closeness, local)
  rows = rows + row_offset(closeness.shape[0])
  distance, rows = lax.all_gather((distance, rows), AXIS, tiled=True, to="invarying")
  _, best = lax.top_k(distance, count)
  return rows[best]
