"""One selection refresh: bank → k-means → neighbours → positives."""

import functools
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh

from clim_jax import sharding
from clim_jax.selection import figures, kmeans, neighbours, positives
from clim_jax.selection.positives import RULES, Positives


@dataclass(frozen=True)
class Selection:
  """Which images are positives of which, as a function of the bank."""

  rule: str  # a name in RULES
  num_neighbours: int
  num_centers: int
  kmeans_iterations: int
  seed: int

  def __call__(
    self,
    mesh: Mesh,
    bank: jax.Array,
    *,
    num_images: int,
    epoch: int,
    labels: np.ndarray | None,
    previous: Positives | None,
  ) -> tuple[Positives, dict[str, float]]:
    """Selects positives for every image.

    Args:
      mesh: the devices over which the bank's rows are sharded.
      bank: unit-norm, [N_pad, D] float32; rows from N on are padding.
      num_images: N.
      epoch: seeds this refresh's k-means.
      labels: [N] int for the figures only, or None.
      previous: the table before, for the figures only.

    Returns:
      The positives and the refresh's figures.
    """
    conditions = RULES[self.rule]
    rng = jax.random.fold_in(jax.random.key(self.seed), epoch)
    nearest = kept = clustering = None
    if "a" in conditions:
      nearest = _neighbours_fn(mesh, num_images, self.num_neighbours)(bank)
    if "b" in conditions:
      clustering = _kmeans_fn(
        mesh, num_images, self.num_centers, self.kmeans_iterations
      )(rng, bank)
    if nearest is not None:
      kept = _select_fn(mesh, self.rule)(nearest, *_clusters(bank, clustering))

    def host(array: jax.Array) -> np.ndarray:
      return sharding.to_host(array)[:num_images]

    assignment = None if clustering is None else host(clustering.assignment)
    ids = None if nearest is None else host(nearest)
    if ids is None:
      table = positives.from_clusters(
        assignment, host(clustering.closeness), closer="c" in conditions
      )
    else:
      table = positives.from_neighbours(ids, host(kept))
    return table, figures.selection_figures(
      table,
      previous=previous,
      assignment=assignment,
      neighbours=ids,
      labels=labels,
      num_centers=self.num_centers,
      rng=np.random.default_rng((self.seed, epoch)),
    )


def _clusters(bank: jax.Array, clustering: kmeans.Clustering | None) -> tuple:
  """Assignment and closeness; for a rule without clusters, any arrays of rows."""
  if clustering is None:
    return bank[:, 0].astype(int), bank[:, 0]
  return clustering.assignment, clustering.closeness


# Mapped functions are made once for each setting: a refresh never recompiles.
@functools.cache
def _neighbours_fn(mesh: Mesh, num_images: int, num_neighbours: int):  # noqa: ANN202
  search = functools.partial(
    neighbours.nearest_neighbours, num_images=num_images, num_neighbours=num_neighbours
  )
  rows = sharding.ROWS
  return sharding.spmd(search, mesh, in_specs=rows, out_specs=rows)


@functools.cache
def _kmeans_fn(mesh: Mesh, num_images: int, num_centers: int, iterations: int):  # noqa: ANN202
  cluster = functools.partial(
    kmeans.spherical_kmeans,
    num_images=num_images,
    num_centers=num_centers,
    iterations=iterations,
  )
  rows = sharding.ROWS
  specs = kmeans.Clustering(sharding.REPLICATED, rows, rows)
  in_specs = (sharding.REPLICATED, rows)
  return sharding.spmd(cluster, mesh, in_specs=in_specs, out_specs=specs)


@functools.cache
def _select_fn(mesh: Mesh, rule: str):  # noqa: ANN202
  select = functools.partial(positives.select_positives, rule=rule)
  rows = sharding.ROWS
  return sharding.spmd(select, mesh, in_specs=(rows, rows, rows), out_specs=rows)
