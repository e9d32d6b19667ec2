"""Exact nearest neighbours on a row-sharded bank, as a ring over the shards."""

import jax
import jax.numpy as jnp
from jax import lax

from clim_jax.selection.blocks import map_row_blocks
from clim_jax.sharding import AXIS, row_offset, varying

NO_NEIGHBOUR = -1
_QUERY_BLOCK = 1024  # rows of the [query, resident] similarities that exist at once
_RESIDENT_BLOCK = 2048  # columns of the same


def nearest_neighbours(
  bank: jax.Array, *, num_images: int, num_neighbours: int
) -> jax.Array:
  """Ids of the most similar other rows; to be mapped over the axis "data".

  Each replica keeps its own rows as queries while the shards travel around the
  ring; a running best list is merged with the best of each resident block.
  Equal similarities are ordered by id, whatever the number of devices.

  Args:
    bank: this replica's rows, unit-norm, [N_pad / devices, D] float32.
    num_images: N; global rows from N on are padding, never a neighbour.
    num_neighbours: M.

  Returns:
    Ids into the bank, nearest first, [N_pad / devices, M] int32; `NO_NEIGHBOUR`
    where fewer than M other images exist.
  """
  rows = bank.shape[0]
  devices = lax.axis_size(AXIS)
  queries = row_offset(rows) + jnp.arange(rows)

  def visit(turn: jax.Array, carry: tuple) -> tuple:
    resident, best = carry
    owner = (lax.axis_index(AXIS) - turn) % devices
    best = _search_shard(bank, queries, resident, owner * rows, best, num_images)
    ring = [(i, (i + 1) % devices) for i in range(devices)]
    return lax.ppermute(resident, AXIS, ring), best

  nothing = varying(
    (
      jnp.full((rows, num_neighbours), -jnp.inf),
      jnp.full((rows, num_neighbours), NO_NEIGHBOUR, jnp.int32),
    )
  )
  _, (_, ids) = lax.fori_loop(0, devices, visit, (bank, nothing))
  return ids


def _search_shard(
  bank: jax.Array,
  queries: jax.Array,
  resident: jax.Array,
  first_id: jax.Array,
  best: tuple[jax.Array, jax.Array],
  num_images: int,
) -> tuple[jax.Array, jax.Array]:
  """Merges the best of one resident shard into the running best lists."""
  width = min(_RESIDENT_BLOCK, resident.shape[0])
  count = -(-resident.shape[0] // width)
  padded = jnp.pad(resident, ((0, count * width - resident.shape[0]), (0, 0)))
  columns = padded.reshape(count, width, -1)
  local_ids = jnp.arange(count * width).reshape(count, width)

  def query_block(block: tuple) -> tuple[jax.Array, jax.Array]:
    rows, row_ids, similarity, ids = block

    def merge(best: tuple, column: tuple) -> tuple[tuple, None]:
      vectors, local = column
      column_ids = first_id + local
      scores = jnp.dot(rows, vectors.T, precision=lax.Precision.HIGHEST)
      exists = (local < resident.shape[0]) & (column_ids < num_images)
      allowed = exists[None, :] & (column_ids[None, :] != row_ids[:, None])
      return _merge_best(best, jnp.where(allowed, scores, -jnp.inf), column_ids), None

    return lax.scan(merge, (similarity, ids), (columns, local_ids))[0]

  return map_row_blocks(query_block, (bank, queries, *best), _QUERY_BLOCK)


def _merge_best(
  best: tuple[jax.Array, jax.Array], scores: jax.Array, column_ids: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """The best M of the running lists [q, M] and of new scores [q, columns]."""
  keep = best[0].shape[1]
  scores = jnp.where(scores == 0, 0.0, scores)  # top_k takes −0 for less than 0
  # top_k is stable, so within a block equal scores already come by rising id;
  # across blocks the sort on (score, id) makes the order of arrival irrelevant.
  scores, positions = lax.top_k(scores, min(keep, scores.shape[1]))
  ids = jnp.where(jnp.isfinite(scores), column_ids[positions], NO_NEIGHBOUR)
  scores = jnp.concatenate([best[0], scores], axis=1)
  ids = jnp.concatenate([best[1], ids.astype(jnp.int32)], axis=1)
  negated, ids = lax.sort((-scores, ids), num_keys=2)
  return -negated[:, :keep], ids[:, :keep]
