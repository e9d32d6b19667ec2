"""Which images an encoder finds alike: places, neighbours, pairs, mistakes."""

from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh
from sklearn.manifold import TSNE

from clim_jax.probes import heads

_VOTERS, _TEMPERATURE = 20, 0.1  # of the kNN that tells what looks wrong
_PAIRS = 24  # most alike, listed
_BLOCK = 1024
_ITERATIONS = 100  # of L-BFGS, at most


class Likeness(NamedTuple):
  """Of P images; rows point to rows."""

  places: np.ndarray  # on the map, in [0, 1], [P, 2] float32
  explained: np.ndarray  # share of the variance along both axes, [2] float32
  neighbours: np.ndarray  # nearest first, [P, M] int32
  similarities: np.ndarray  # cosines, [P, M] float32


def compare(features: np.ndarray, is_train: np.ndarray) -> Likeness:
  """Every image against the training images among all, itself left out.

  Args:
    features: unit-norm, [P, F] float32.
    is_train: [P] bool; at least two.
  """
  center = features[is_train].mean(axis=0)
  spread = features[is_train] - center
  values, vectors = np.linalg.eigh(spread.T @ spread)
  axes = vectors[:, [-1, -2]] if vectors.shape[1] > 1 else vectors[:, [-1, -1]]
  flat = (features - center) @ axes
  explained = np.maximum(values[-2:][::-1], 0) / max(values.sum(), 1e-12)
  trained = np.flatnonzero(is_train)
  count = min(_VOTERS, len(trained) - 1)
  neighbours, similarities = [], []
  for start in range(0, len(features), _BLOCK):
    rows = np.arange(start, min(start + _BLOCK, len(features)))
    cosines = features[rows] @ features[trained].T
    cosines[rows[:, None] == trained[None]] = -2.0
    best = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(cosines, best, 1), axis=1, kind="stable")
    best = np.take_along_axis(best, order, 1)
    neighbours.append(trained[best].astype(np.int32))
    similarities.append(np.take_along_axis(cosines, best, 1))
  return Likeness(
    _in_unit_square(flat),
    explained.astype(np.float32),
    np.concatenate(neighbours),
    np.concatenate(similarities),
  )


def tsne(features: np.ndarray) -> np.ndarray:
  """Places on a map that keeps neighbours together, in [0, 1], [P, 2] float32.

  Reference: van der Maaten and Hinton 2008, as scikit-learn has it.
  """
  perplexity = min(30.0, (len(features) - 1) / 3)
  flat = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(features)
  return _in_unit_square(flat)


def _in_unit_square(flat: np.ndarray) -> np.ndarray:
  low, high = flat.min(axis=0), flat.max(axis=0)
  return ((flat - low) / np.maximum(high - low, 1e-9)).astype(np.float32)


def votes(found: Likeness, labels: np.ndarray) -> np.ndarray:
  """The label that the nearest labelled training images vote for, [P]; −1: nobody.

  Args:
    found: of P images.
    labels: [P] int; −1 where an image has none.
  """
  names, codes = np.unique(labels, return_inverse=True)
  weights = np.exp((found.similarities - 1) / _TEMPERATURE)
  weights = np.where(labels[found.neighbours] >= 0, weights, 0)
  totals = np.zeros((len(labels), len(names)))
  rows = np.arange(len(labels))[:, None]
  np.add.at(totals, (rows, codes[found.neighbours]), weights)
  return np.where(totals.max(axis=1) > 0, names[totals.argmax(axis=1)], -1)


def pairs(found: Likeness) -> list[tuple[int, int, float]]:
  """The pairs most alike: rows, an image of training second, and cosine."""
  nearest, cosines = found.neighbours[:, 0], found.similarities[:, 0]
  listed, told = [], set()
  for row in np.argsort(-cosines, kind="stable"):
    pair = frozenset((int(row), int(nearest[row])))
    if pair not in told:
      told.add(pair)
      listed.append((int(row), int(nearest[row]), float(cosines[row])))
    if len(listed) == _PAIRS:
      break
  return listed


def confusion(
  mesh: Mesh,
  features: np.ndarray,
  labels: np.ndarray,
  is_train: np.ndarray,
  regulariser: float,
) -> tuple[np.ndarray, np.ndarray]:
  """What a linear probe takes test images for.

  Args:
    mesh: devices.
    features: unit-norm, [P, F] float32.
    labels: [P] int; −1 where an image has none.
    is_train: [P] bool.
    regulariser: of the probe.

  Returns:
    Classes of the training images, [C]; and how many test images of each are taken
    for each, [C, C] int64, the truth by row.
  """
  fitted, judged = is_train & (labels >= 0), ~is_train & (labels >= 0)
  classes = np.unique(labels[fitted])
  judged &= np.isin(labels, classes)
  codes = np.searchsorted(classes, labels).astype(np.int32)
  rows = heads.SharedRows.put(mesh, features[fitted], codes[fitted])
  (head,) = heads.fit_regularisers(
    mesh,
    rows,
    np.arange(fitted.sum()),
    np.float32([regulariser]),
    num_classes=len(classes),
    max_iterations=_ITERATIONS,
  )
  predicted = np.asarray(heads.logits(head, features[judged])).argmax(axis=1)
  counts = np.zeros((len(classes), len(classes)), np.int64)
  np.add.at(counts, (codes[judged], predicted), 1)
  return classes, counts
