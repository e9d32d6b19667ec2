"""Figures that tell whether mining works, computed on the host at each refresh."""

import numpy as np

from clim_jax.selection.positives import Positives
from clim_jax.selection.search.best import NO_NEIGHBOUR


def selection_figures(
  positives: Positives,
  *,
  previous: Positives | None,
  assignment: np.ndarray | None,
  neighbours: np.ndarray | None,
  labels: np.ndarray | None,
  num_centers: int,
  rng: np.random.Generator,
) -> dict[str, float]:
  """Everything known of one refresh; labels are only looked at, never used.

  Args:
    positives: the new table, of N images.
    previous: the table before, if there was one.
    assignment: cluster of each image, [N] int32; None for a rule without clusters.
    neighbours: raw kNN ids, [N, M] int32; None for a rule without neighbours.
    labels: [N] int, if the data have them; negative for an image without one.
    num_centers: C.
    rng: draws the positives on which turnover is measured.

  Returns:
    `empty_share` of anchors without a positive, `mean_positives` per anchor,
    `cluster_min`/`_median`/`_max`/`_empty` sizes, `turnover`: the share of
    positives drawn from the new table that were not in the old one,
    `expected_empty_share`: 1/(K'+1) averaged over anchors with K' neighbours in
    the same cluster, what chance alone would leave empty, `knn_precision` and
    `positives_precision`: mean over labelled anchors of the share with their label.
  """
  images = len(positives.count)
  figures = {
    "empty_share": float(np.mean(positives.count == 0)),
    "mean_positives": float(np.mean(positives.count)),
  }
  if assignment is not None:
    sizes = np.bincount(assignment, minlength=num_centers)
    figures |= {
      "cluster_min": int(sizes.min()),
      "cluster_median": float(np.median(sizes)),
      "cluster_max": int(sizes.max()),
      "cluster_empty": int(np.sum(sizes == 0)),
    }
  if assignment is not None and neighbours is not None:
    exists = neighbours != NO_NEIGHBOUR
    together = exists & (assignment[neighbours] == assignment[:, None])
    figures["expected_empty_share"] = float(np.mean(1 / (together.sum(axis=1) + 1)))
  if previous is not None:
    drawn = positives.draw(np.arange(images), rng.random(images))
    new = _matches(previous.ids, previous, drawn) == 0
    figures["turnover"] = _mean(new, positives.count > 0)
  if labels is not None:
    known = labels >= 0
    if neighbours is not None:
      same = labels[neighbours] == labels[:, None]
      exists = neighbours != NO_NEIGHBOUR
      figures["knn_precision"] = _mean(same, exists & known[:, None])
    same_label = _matches(labels[positives.ids], positives, labels)
    share = same_label / np.maximum(positives.count, 1)
    figures["positives_precision"] = _mean(share, (positives.count > 0) & known)
  return figures


def _mean(values: np.ndarray, where: np.ndarray) -> float:
  return float(values[where].mean()) if where.any() else float("nan")


def _matches(values: np.ndarray, runs: Positives, wanted: np.ndarray) -> np.ndarray:
  """How many of `values` in each image's run equal what the image wants, [N].

  Runs are long and overlap where they are whole clusters, so they are counted by
  two binary searches among (value, place) pairs instead of being walked.
  """
  total = len(values) + 1
  pairs = np.sort(values.astype(np.int64) * total + np.arange(len(values)))
  first = wanted.astype(np.int64) * total + runs.start
  return np.searchsorted(pairs, first + runs.count) - np.searchsorted(pairs, first)
