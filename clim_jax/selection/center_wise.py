"""Center-wise selection for embeddings of one's own, NumPy in and out."""

from typing import NamedTuple

import numpy as np

from clim_jax import sharding
from clim_jax.selection.positives import RULES
from clim_jax.selection.refresh import Selection
from clim_jax.selection.search.scoring import SCORINGS


class CenterWisePositives(NamedTuple):
  """Neighbours of every image, and which of them are its positives."""

  ids: np.ndarray  # nearest first, −1 where a pruned search found fewer, [N, M] int32
  mask: np.ndarray  # True for a positive; a row may be all False, [N, M] bool
  statistics: dict[str, float]


def center_wise_positives(
  embeddings: np.ndarray,
  *,
  num_neighbours: int,
  num_centers: int,
  rule: str = "center_wise",
  kmeans_iterations: int = 20,
  probes: int = 0,
  scoring: str = "float32",
  labels: np.ndarray | None = None,
  seed: int = 0,
) -> CenterWisePositives:
  """Positives of each image among the others, on all devices of this process.

      found = clim_jax.center_wise_positives(
        embeddings, num_neighbours=40, num_centers=1000
      )
      found.ids[0][found.mask[0]]  # the positives of image 0

  A positive is among the nearest neighbours of its anchor, in the cluster of its
  anchor, and nearer to the center of that cluster than its anchor. Copies of one
  image are equally near to a center, so none is a positive of another.

  Args:
    embeddings: one row an image, of any length but zero, [N, D] of any float dtype.
      They are compared by cosine.
    num_neighbours: M < N.
    num_centers: C ≤ N, of k-means.
    rule: `center_wise`; or `knn_cluster`, without the condition on the center; or
      `knn`, the neighbours alone.
    kmeans_iterations: of Lloyd's algorithm.
    probes: clusters searched for neighbours; 0 searches all images, exactly. With
      probes the statistics hold the recall, measured on a sample.
    scoring: one of `scoring.SCORINGS`; both are exact, bfloat16 is meant for
      accelerators.
    labels: [N] int, for the statistics alone: the precision of what was found.
    seed: of k-means and of the sample.

  Returns:
    Ids, mask and statistics; `figures.selection_figures` and `recall.recall_figures`
    say what these are.

  Raises:
    ValueError: what cannot be selected from, with the value, the limit, the row.

  Reference: Li et al. 2021 (arXiv 2011.02697), center-wise local selection.
  """
  bank = _unit_rows(np.asarray(embeddings))
  images = len(bank)
  _check(images, num_neighbours, num_centers, rule, probes, scoring)
  selection = Selection(
    rule=rule,
    num_neighbours=num_neighbours,
    num_centers=num_centers,
    kmeans_iterations=kmeans_iterations,
    probes=probes,
    scoring=scoring,
    seed=seed,
  )
  mesh = sharding.make_mesh()
  filling = -images % mesh.devices.size
  rows = sharding.put_rows(mesh, np.pad(bank, ((0, filling), (0, 0))))
  _, statistics, found = selection(
    mesh, rows, num_images=images, epoch=0, labels=labels, previous=None
  )
  return CenterWisePositives(found.neighbours, found.kept, statistics)


def _unit_rows(embeddings: np.ndarray) -> np.ndarray:
  if embeddings.ndim != 2 or embeddings.dtype.kind != "f":
    raise ValueError(
      "embeddings must be floats of shape [images, features], not "
      f"{embeddings.dtype} of shape {embeddings.shape}"
    )
  # In float64 the length of no finite float32 row overflows or vanishes.
  norms = np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
  for broken, what in ((~np.isfinite(norms), "not finite"), (norms == 0, "zero")):
    if broken.any():
      raise ValueError(
        f"{broken.sum()} of {len(embeddings)} embeddings are {what}, first row "
        f"{broken[:, 0].argmax()}; leave such images out or mend their features"
      )
  return (embeddings / norms).astype(np.float32)


def _check(
  images: int,
  num_neighbours: int,
  num_centers: int,
  rule: str,
  probes: int,
  scoring: str,
) -> None:
  rules = [name for name, conditions in RULES.items() if conditions.startswith("a")]
  if rule not in rules:
    raise ValueError(f"rule {rule!r} must be one of {', '.join(rules)}")
  if scoring not in SCORINGS:
    raise ValueError(f"scoring {scoring!r} must be one of {', '.join(SCORINGS)}")
  if not 1 <= num_neighbours < images:
    raise ValueError(
      f"num_neighbours {num_neighbours} must be at least 1 and less than the {images} "
      "embeddings"
    )
  if not 1 <= num_centers <= images:
    raise ValueError(
      f"num_centers {num_centers} must be at least 1 and at most the {images} "
      "embeddings"
    )
  if probes < 0 or (probes and "b" not in RULES[rule]):
    raise ValueError(
      f"probes {probes} must not be negative, and must be 0 for rule {rule!r}, which "
      "makes no clusters"
    )
