"""One selection refresh: bank → k-means → neighbours → positives."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from clim_jax import sharding
from clim_jax.selection import figures, kmeans, positives
from clim_jax.selection.positives import RULES, Positives
from clim_jax.selection.search import exact, pruned, recall

_RECALL_SAMPLE = 256  # images searched exactly to tell what pruning misses


class RowsOnHost(NamedTuple):
  """What was found of every image; None where the rule needs none."""

  neighbours: np.ndarray | None  # [N, M] int32
  kept: np.ndarray | None  # neighbours that are positives, [N, M] bool
  assignment: np.ndarray | None  # [N] int32
  closeness: np.ndarray | None  # cosine to the center, [N] float32


class Selected(NamedTuple):
  positives: Positives
  figures: dict[str, float]  # see `figures.selection_figures`, `recall.recall_figures`
  rows: RowsOnHost


class Rows(NamedTuple):
  """`RowsOnHost`, rows sharded."""

  neighbours: jax.Array | None
  kept: jax.Array | None
  clustering: kmeans.Clustering | None

  def to_host(self, num_images: int) -> RowsOnHost:
    _, *by_row = self.clustering or (None, None, None)
    return RowsOnHost(
      *(
        None if rows is None else sharding.to_host(rows)[:num_images]
        for rows in (self.neighbours, self.kept, *by_row)
      )
    )


@dataclass(frozen=True)
class Selection:
  """Which images are positives of which, as a function of the bank."""

  rule: str  # a name in RULES
  num_neighbours: int
  num_centers: int
  kmeans_iterations: int
  probes: int  # clusters searched for neighbours; 0: all images
  seed: int
  scoring: str = "float32"  # of neighbours, one of SCORINGS

  def __call__(
    self,
    mesh: Mesh,
    bank: jax.Array,
    *,
    num_images: int,
    epoch: int,
    labels: np.ndarray | None,
    previous: Positives | None,
  ) -> Selected:
    """Selects positives for every image.

    Args:
      mesh: the devices over which the bank's rows are sharded.
      bank: unit-norm, [N_pad, D] float32; rows from N on are padding.
      num_images: N.
      epoch: seeds this refresh's k-means.
      labels: [N] int for the figures only, or None.
      previous: the table before, for the figures only.

    Raises:
      FloatingPointError: the bank is not finite; names the first such image.
    """
    rows = self.find(mesh, bank, num_images=num_images, epoch=epoch)
    found = rows.to_host(num_images)
    if found.neighbours is None:
      closer = "c" in RULES[self.rule]
      table = positives.from_clusters(found.assignment, found.closeness, closer=closer)
    else:
      table = positives.from_neighbours(found.neighbours, found.kept)
    statistics = figures.selection_figures(
      table,
      previous=previous,
      assignment=found.assignment,
      neighbours=found.neighbours,
      labels=labels,
      num_centers=self.num_centers,
      rng=np.random.default_rng((self.seed, epoch)),
    )
    if self.is_pruned:
      statistics |= self.recall(mesh, bank, found, epoch=epoch)
    return Selected(table, statistics, found)

  @property
  def is_pruned(self) -> bool:
    return self.probes > 0 and RULES[self.rule].startswith("ab")

  def find(self, mesh: Mesh, bank: jax.Array, *, num_images: int, epoch: int) -> Rows:
    """Clusters, neighbours and which of them are positives; see `__call__`."""
    conditions = RULES[self.rule]
    _check_finite(bank, num_images)
    clustering = nearest = kept = None
    if "b" in conditions:
      rng = jax.random.fold_in(jax.random.key(self.seed), epoch)
      clustering = _kmeans_fn(mesh, self, num_images)(rng, bank)
    if "a" in conditions:
      options = {
        "num_images": num_images,
        "num_neighbours": self.num_neighbours,
        "scoring": self.scoring,
      }
      if self.is_pruned:
        assignment = sharding.to_host(clustering.assignment)[:num_images]
        nearest = pruned.pruned_neighbours(
          mesh, bank, clustering.centers, assignment, probes=self.probes, **options
        )
      else:
        nearest = exact.exact_neighbours(mesh, bank, **options)
      kept = _select_fn(mesh, self.rule)(nearest, *_clusters(bank, clustering))
    return Rows(nearest, kept, clustering)

  def recall(
    self, mesh: Mesh, bank: jax.Array, found: RowsOnHost, *, epoch: int
  ) -> dict[str, float]:
    """Figures of a sample of images, searched exactly."""
    images = len(found.neighbours)
    rng = np.random.default_rng((self.seed, epoch, 1))
    sample = rng.permutation(images)[:_RECALL_SAMPLE].astype(np.int32)
    exact = recall.search_sample(
      mesh, bank, sample, num_images=images, num_neighbours=self.num_neighbours
    )
    return recall.recall_figures(
      sample,
      exact,
      found.neighbours[sample],
      found.assignment,
      found.closeness,
      rule=self.rule,
    )


def _check_finite(bank: jax.Array, num_images: int) -> None:
  """Raises FloatingPointError if an image's row holds NaN or infinity."""
  broken = sharding.to_host(_broken(bank))[:num_images]
  if broken.any():
    raise FloatingPointError(
      f"the features of {broken.sum()} of {num_images} images are not finite, first "
      f"those of image {broken.argmax()}; the encoder has diverged"
    )


@jax.jit
def _broken(bank: jax.Array) -> jax.Array:
  """Whether a row holds NaN or infinity, [N_pad] bool."""
  return ~jnp.isfinite(bank).all(axis=1)


def _clusters(bank: jax.Array, clustering: kmeans.Clustering | None) -> tuple:
  """Assignment and closeness; for a rule without clusters, any arrays of rows."""
  if clustering is None:
    return bank[:, 0].astype(int), bank[:, 0]
  return clustering.assignment, clustering.closeness


# Mapped functions are made once for each setting: a refresh never recompiles.
@functools.cache
def _kmeans_fn(mesh: Mesh, selection: Selection, num_images: int):  # noqa: ANN202
  cluster = functools.partial(
    kmeans.spherical_kmeans,
    num_images=num_images,
    num_centers=selection.num_centers,
    iterations=selection.kmeans_iterations,
  )
  rows, replicated = sharding.ROWS, sharding.REPLICATED
  specs = kmeans.Clustering(replicated, rows, rows)
  return sharding.spmd(cluster, mesh, in_specs=(replicated, rows), out_specs=specs)


@functools.cache
def _select_fn(mesh: Mesh, rule: str):  # noqa: ANN202
  select = functools.partial(positives.select_positives, rule=rule)
  rows = sharding.ROWS
  return sharding.spmd(select, mesh, in_specs=(rows, rows, rows), out_specs=rows)
