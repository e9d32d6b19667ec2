"""The selection rules, and the table from which positives are drawn."""

from typing import NamedTuple

import jax
import numpy as np
from jax import lax

from clim_jax.selection.search.best import NO_NEIGHBOUR
from clim_jax.sharding import AXIS

# The arms of the ablation: which of the conditions (a) nearest neighbour,
# (b) same cluster, (c) nearer to the cluster's center, a positive must meet.
RULES: dict[str, str] = {
  "none": "",
  "knn": "a",
  "cluster": "b",
  "cluster_closer": "bc",
  "knn_cluster": "ab",
  "center_wise": "abc",
}


class Positives(NamedTuple):
  """Positives of every image, ragged: those of image i are a run of `ids`.

  Runs may overlap, which is how the rules without neighbours, whose sets are
  whole clusters, take O(N) memory.
  """

  ids: np.ndarray  # [T] int32
  start: np.ndarray  # first of each image's run, [N] int64
  count: np.ndarray  # length of each image's run, [N] int32

  def draw(self, anchors: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """One positive a row uniformly at random; the anchor where there is none.

    Args:
      anchors: image ids, [B] int64.
      uniforms: in [0, 1), [B] float64.

    Returns:
      Image ids, [B] int64.
    """
    count = self.count[anchors]
    pick = self.start[anchors] + np.floor(uniforms * count).astype(np.int64)
    drawn = (
      self.ids[np.minimum(pick, max(len(self.ids) - 1, 0))] if len(self.ids) else 0
    )
    return np.where(count > 0, drawn, anchors)

  def of(self, image: int) -> np.ndarray:
    """Ids of the positives of one image, [count] int32."""
    start = self.start[image]
    return self.ids[start : start + self.count[image]]


def select_positives(
  neighbours: jax.Array, assignment: jax.Array, closeness: jax.Array, *, rule: str
) -> jax.Array:
  """Keeps the neighbours that meet the rule; to be mapped over the axis "data".

  Args:
    neighbours: ids into the bank, nearest first, rows sharded, [N_pad, M] int32.
    assignment: center of each image, rows sharded, [N_pad] int32.
    closeness: cosine of each image to its center, rows sharded, [N_pad] float32.
    rule: a rule of `RULES` with condition (a).

  Returns:
    Mask of kept neighbours, rows sharded, [N_pad, M] bool. A row may be all False.

  Reference: Li et al. 2021 (arXiv 2011.02697), center-wise local selection.
  """
  conditions = RULES[rule]
  all_assignment = lax.all_gather(assignment, AXIS, tiled=True)
  all_closeness = lax.all_gather(closeness, AXIS, tiled=True)
  kept = neighbours != NO_NEIGHBOUR  # (a)
  if "b" in conditions:
    kept &= all_assignment[neighbours] == assignment[:, None]
  if "c" in conditions:
    kept &= all_closeness[neighbours] > closeness[:, None]
  return kept


def from_neighbours(neighbours: np.ndarray, kept: np.ndarray) -> Positives:
  """The ragged table of the kept neighbours, [N, M] each."""
  count = kept.sum(axis=1).astype(np.int32)
  start = np.cumsum(count, dtype=np.int64) - count
  return Positives(neighbours[kept].astype(np.int32), start, count)


def from_clusters(
  assignment: np.ndarray, closeness: np.ndarray, *, closer: bool
) -> Positives:
  """Rules (b) and, with `closer`, (b, c): without neighbours, so on the host.

  Sorted by cluster and then by closeness, the members nearer to the center than
  an image are the run that begins its cluster; and its cluster without itself is
  the run that follows it in the cluster laid down twice.
  """
  images = len(assignment)
  order = np.lexsort((-closeness, assignment))
  rank = np.empty(images, np.int64)
  rank[order] = np.arange(images)
  sizes = np.bincount(assignment)
  begin = (np.cumsum(sizes) - sizes)[assignment]
  if closer:
    # Equally near is not nearer: count only from the first of equals.
    sorted_pairs = np.stack([assignment[order], closeness[order]])
    new_value = np.ones(images, bool)
    new_value[1:] = (sorted_pairs[:, 1:] != sorted_pairs[:, :-1]).any(axis=0)
    first_equal = np.maximum.accumulate(np.where(new_value, np.arange(images), 0))
    count = first_equal[rank] - begin
    return Positives(order.astype(np.int32), begin, count.astype(np.int32))
  size = sizes[assignment]
  twice = np.empty(2 * images, np.int64)
  place = rank + begin  # cluster c is laid down from 2·begin on
  twice[place] = twice[place + size] = np.arange(images)
  return Positives(
    twice.astype(np.int32), place.astype(np.int64) + 1, (size - 1).astype(np.int32)
  )
