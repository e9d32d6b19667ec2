"""FAISS's side of the selection benchmark, and how results are compared."""

from typing import NamedTuple

import faiss
import numpy as np

NOBODY = -1


class Clustering(NamedTuple):
  centers: np.ndarray  # [C, D] float32
  assignment: np.ndarray  # [N] int
  closeness: np.ndarray  # cosine to the own center, [N] float32


def nearest(rows: np.ndarray, count: int) -> np.ndarray:
  """The `count` + 1 most similar rows of each, itself among them, by exact search."""
  index = faiss.IndexFlatIP(rows.shape[1])
  index.add(rows)
  return index.search(rows, count + 1)[1]


def cluster(
  rows: np.ndarray, num_centers: int, iterations: int, seed: int
) -> Clustering:
  """Spherical k-means with every row, and the final assignment."""
  kmeans = faiss.Kmeans(
    rows.shape[1],
    num_centers,
    niter=iterations,
    spherical=True,
    seed=seed,
    min_points_per_centroid=1,  # only warns
    max_points_per_centroid=len(rows),  # no subsampling
  )
  kmeans.train(rows)
  closeness, assignment = kmeans.index.search(rows, 1)
  return Clustering(kmeans.centroids, assignment[:, 0], closeness[:, 0])


def without_self(ids: np.ndarray) -> np.ndarray:
  """Others than the row itself, [N, M]; of [N, M + 1], nearest first."""
  others = ids != np.arange(len(ids))[:, None]
  others[others.all(axis=1), -1] = False  # hidden by copies of itself
  return ids[others].reshape(len(ids), -1)


def center_wise(ids: np.ndarray, found: Clustering) -> np.ndarray:
  """Neighbours in the same cluster and nearer to its center; others `NOBODY`."""
  together = found.assignment[ids] == found.assignment[:, None]
  nearer = found.closeness[ids] > found.closeness[:, None]
  return np.where((ids != NOBODY) & together & nearer, ids, NOBODY)


def share(ids: np.ndarray, among: np.ndarray) -> float:
  """Share of `ids`, less `NOBODY`, that stand in the same row of `among`."""
  exist = ids != NOBODY
  common = sum(
    int(np.sum((ids[:, m, None] == among).any(axis=1) & exist[:, m]))
    for m in range(ids.shape[1])
  )
  return common / max(int(exist.sum()), 1)


def inertia(rows: np.ndarray, centers: np.ndarray, assignment: np.ndarray) -> float:
  """Sum over rows of 1 − cosine to the own center."""
  cosine = np.einsum("nd,nd->n", rows, centers[assignment])
  return float(np.sum(1 - cosine, dtype=np.float64))
