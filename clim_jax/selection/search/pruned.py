"""Cluster-pruned search: the centers of k-means serve as an inverted file.

Laid down cluster by cluster, the members of a cluster fill a few tiles, and only the
tiles of the clusters nearest to it are compared. An image's own cluster is always
among them, so rule (b) loses no candidate: a selected positive can only be one too
many, where nearer images of an unvisited cluster would have taken its place.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

from clim_jax import sharding
from clim_jax.selection.search import exact
from clim_jax.selection.search.best import NO_NEIGHBOUR
from clim_jax.selection.search.blocks import map_row_blocks
from clim_jax.selection.search.tile_pairs import Tiling, schedule
from clim_jax.sharding import AXIS

# Rows of a tile: the finer, the fewer rows of other clusters are compared with it.
_TILE_ON_CPU = 512
_TILE_ON_ACCELERATOR = 2048
_CENTERS = 1024  # rows of the [C, C] similarities that exist at once


def pruned_neighbours(
  mesh: Mesh,
  bank: jax.Array,
  centers: jax.Array,
  assignment: np.ndarray,
  *,
  num_images: int,
  num_neighbours: int,
  probes: int,
  scoring: str = "float32",
) -> jax.Array:
  """Ids of the most similar other rows of the `probes` nearest clusters.

  Args:
    mesh: the devices over which the bank's rows are sharded.
    bank: unit-norm, rows sharded, [N_pad, D] float32.
    centers: unit-norm, replicated, [C, D] float32.
    assignment: center of each image, on the host, [N] int32.
    num_images: N; rows from N on are padding.
    num_neighbours: M.
    probes: clusters searched for each cluster, its own included; at most C.
    scoring: see `exact.exact_neighbours`.

  Returns:
    Ids, nearest first, rows sharded, [N_pad, M] int32; `NO_NEIGHBOUR` where fewer
    were found. All of a probed cluster has been compared, and some of others. Equal
    similarities are ordered by cluster, then by id.
  """
  on_cpu = mesh.devices.flat[0].platform == "cpu"
  at_most = _TILE_ON_CPU if on_cpu else _TILE_ON_ACCELERATOR
  tiling = Tiling.of(bank.shape[0], mesh.devices.size, at_most=at_most)
  order = np.argsort(assignment, kind="stable")
  visits = np.asarray(_probes_fn(min(probes, centers.shape[0]))(centers))
  pairs = schedule(_tiles_of_probes(assignment[order], visits, tiling), tiling)
  padded = np.resize(order, bank.shape[0]).astype(np.int32)
  by_cluster = _reorder_fn(mesh)(bank, sharding.put_rows(mesh, _mine(mesh, padded)))
  places = exact.compare_tiles(
    mesh,
    by_cluster,
    pairs,
    tiling=tiling,
    num_images=num_images,
    num_neighbours=num_neighbours,
    scoring=scoring,
  )
  places = sharding.to_host(places)[:num_images]
  ids = np.full((bank.shape[0], num_neighbours), NO_NEIGHBOUR, np.int32)
  ids[order] = np.where(places == NO_NEIGHBOUR, NO_NEIGHBOUR, order[places])
  return sharding.put_rows(mesh, _mine(mesh, ids))


def _tiles_of_probes(
  clusters: np.ndarray, visits: np.ndarray, tiling: Tiling
) -> np.ndarray:
  """Unordered pairs of different tiles that hold members of probing clusters, [P, 2].

  Args:
    clusters: cluster of each row, ascending, [N] int32.
    visits: clusters that each cluster probes, [C, probes] int32.
    tiling: of the rows.
  """
  tile = tiling.tile_of(np.arange(len(clusters)))
  # Each tile holds a run of clusters and each cluster a run of tiles.
  home = np.unique(np.stack([tile, clusters], axis=1), axis=0)
  probed = visits[home[:, 1]].reshape(-1)
  first = tile[np.minimum(np.searchsorted(clusters, probed), len(tile) - 1)]
  last = tile[np.searchsorted(clusters, probed, side="right") - 1]
  populated = np.isin(probed, home[:, 1])
  length = np.where(populated, last - first + 1, 0)
  from_tile = np.repeat(np.repeat(home[:, 0], visits.shape[1]), length)
  within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
  to_tile = np.repeat(first, length) + within
  both = np.stack([from_tile, to_tile], axis=1)
  different = from_tile != to_tile  # within itself every tile is compared anyway
  return np.unique(np.sort(both[different], axis=1), axis=0)


def _mine(mesh: Mesh, rows: np.ndarray) -> np.ndarray:
  return rows[sharding.process_rows(mesh, len(rows))]


@functools.cache
def _probes_fn(probes: int):  # noqa: ANN202
  def nearest(centers: jax.Array) -> jax.Array:
    def block(rows: jax.Array) -> jax.Array:
      similarity = jnp.dot(rows, centers.T, precision=lax.Precision.HIGHEST)
      return lax.top_k(similarity, probes)[1]

    return map_row_blocks(block, centers, _CENTERS)

  return jax.jit(nearest)


@functools.cache
def _reorder_fn(mesh: Mesh):  # noqa: ANN202
  """(bank, ids of rows) → those rows, as the shards go once around the ring."""

  def reorder(bank: jax.Array, ids: jax.Array) -> jax.Array:
    devices = lax.axis_size(AXIS)

    def turn(number: jax.Array, carry: tuple) -> tuple:
      visitor, found = carry
      first = (lax.axis_index(AXIS) - number) % devices * bank.shape[0]
      here = (ids >= first) & (ids < first + bank.shape[0])
      rows = visitor[jnp.clip(ids - first, 0, bank.shape[0] - 1)]
      forth = [(i, (i + 1) % devices) for i in range(devices)]
      visitor = lax.ppermute(visitor, AXIS, forth)
      return visitor, jnp.where(here[:, None], rows, found)

    return lax.fori_loop(0, devices, turn, (bank, jnp.zeros_like(bank)))[1]

  by_row = sharding.ROWS
  return sharding.spmd(reorder, mesh, in_specs=(by_row, by_row), out_specs=by_row)
