"""What a pruned search misses: a sample of images searched exactly."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

from clim_jax import sharding
from clim_jax.selection.positives import RULES
from clim_jax.selection.search.best import NO_NEIGHBOUR
from clim_jax.selection.search.blocks import map_row_blocks
from clim_jax.selection.seeding import gather_rows
from clim_jax.sharding import AXIS, row_offset

_ROWS = 16  # of the sample whose similarities to all of a shard exist at once


def search_sample(
  mesh: Mesh,
  bank: jax.Array,
  sample: np.ndarray,
  *,
  num_images: int,
  num_neighbours: int,
) -> np.ndarray:
  """Exact neighbours of a few images, each compared with all rows of the bank.

  Args:
    mesh: the devices over which the bank's rows are sharded.
    bank: unit-norm, rows sharded, [N_pad, D] float32.
    sample: ids, [S] int32.
    num_images: N.
    num_neighbours: M < N.

  Returns:
    Ids, nearest first, equal similarities by id, on the host, [S, M] int32.
  """
  search = _search_fn(mesh, num_images, num_neighbours)
  return np.asarray(search(bank, jnp.asarray(sample, jnp.int32)))


@functools.cache
def _search_fn(mesh: Mesh, num_images: int, num_neighbours: int):  # noqa: ANN202
  def search(bank: jax.Array, sample: jax.Array) -> jax.Array:
    ids = row_offset(bank.shape[0]) + jnp.arange(bank.shape[0], dtype=jnp.int32)

    def of_shard(block: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
      queries, row = block
      similarity = jnp.dot(queries, bank.T, precision=lax.Precision.HIGHEST)
      others = (ids < num_images)[None] & (ids[None] != row[:, None])
      similarity = jnp.where(others, similarity, -jnp.inf)
      best, places = lax.top_k(similarity, min(num_neighbours, bank.shape[0]))
      return best, ids[places]

    queries = gather_rows(bank, sample)
    found = map_row_blocks(of_shard, (queries, sample), _ROWS)
    found = lax.all_gather(found, AXIS, axis=1, tiled=True, to="invarying")
    _, ids = lax.sort((-found[0], found[1]), num_keys=2)
    return ids[:, :num_neighbours]

  specs = (sharding.ROWS, sharding.REPLICATED)
  return sharding.spmd(search, mesh, in_specs=specs, out_specs=sharding.REPLICATED)


def recall_figures(
  sample: np.ndarray,
  exact: np.ndarray,
  found: np.ndarray,
  assignment: np.ndarray,
  closeness: np.ndarray,
  *,
  rule: str,
) -> dict[str, float]:
  """How a search agrees with the exact one on a sample.

  Args:
    sample: ids, [S] int32.
    exact: neighbours of the sample by exact search, [S, M] int32.
    found: by the search in question, [S, M] int32.
    assignment: cluster of each image, [N] int32.
    closeness: cosine of each image to its center, [N] float32.
    rule: which neighbours are positives.

  Returns:
    `neighbours_recall`: share of the exact neighbours found; `positives_recall`:
    share of the positives of the exact search selected; `positives_exact`: share of
    the selected positives that the exact search selects too.
  """
  anchor = sample[:, None]

  def selected(ids: np.ndarray) -> np.ndarray:
    kept = ids != NO_NEIGHBOUR
    if "b" in RULES[rule]:
      kept &= assignment[ids] == assignment[anchor]
    if "c" in RULES[rule]:
      kept &= closeness[ids] > closeness[anchor]
    return kept

  def pairs(ids: np.ndarray, kept: np.ndarray) -> np.ndarray:
    return (anchor.astype(np.int64) * len(assignment) + ids)[kept]

  def share(of: np.ndarray, within: np.ndarray) -> float:
    return float(np.isin(of, within).mean()) if len(of) else 1.0

  everything = pairs(exact, exact != NO_NEIGHBOUR), pairs(found, found != NO_NEIGHBOUR)
  positives = pairs(exact, selected(exact)), pairs(found, selected(found))
  return {
    "neighbours_recall": share(*everything),
    "positives_recall": share(*positives),
    "positives_exact": share(*reversed(positives)),
  }
