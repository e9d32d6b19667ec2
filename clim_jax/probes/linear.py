"""The quick linear probe: logistic regression on features computed once."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh
from sklearn.model_selection import train_test_split

from clim_jax.probes import heads


class ProbeResult(NamedTuple):
  """Accuracies in [0, 1] by setting, and the setting that the held-out rows chose."""

  chosen: float
  validation: dict[float, float]  # fit on a part of the training rows, on the rest
  test: dict[float, float]  # fit on all training rows, on the test rows


def split_rows(
  labels: np.ndarray, *, validation_fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """Divides training rows into those that fit a setting and those that judge it.

  The split is stratified by class. Where that cannot be, because a class has a
  single row or a part has fewer rows than there are classes, it is plainly random.

  Args:
    labels: [N] int32.
    validation_fraction: share of the rows held out, in (0, 1), rounded up.
    seed: of the split.

  Returns:
    Row ids of the two parts, int64.

  Raises:
    ValueError: from scikit-learn, with the numbers, where a part would be empty.
  """
  counts = np.unique(labels, return_counts=True)[1]
  held_out = math.ceil(validation_fraction * len(labels))
  smallest_part = min(held_out, len(labels) - held_out)
  stratifiable = counts.min() >= 2 and smallest_part >= len(counts)
  fitted, judged = train_test_split(
    np.arange(len(labels)),
    test_size=validation_fraction,
    random_state=seed,
    stratify=labels if stratifiable else None,
  )
  return fitted, judged


def linear_probe(
  mesh: Mesh,
  train_features: np.ndarray,
  train_labels: np.ndarray,
  test_features: np.ndarray,
  test_labels: np.ndarray,
  *,
  num_classes: int,
  regularisers: Sequence[float],
  max_iterations: int,
  validation_fraction: float,
  seed: int,
) -> ProbeResult:
  """Logistic regression by L-BFGS, its penalty chosen on held-out training rows.

  Every regulariser is fit on a part of the training rows and judged on the rest; then
  it is fit on all of them and scored on the test rows. Of equally good ones the
  strongest is chosen.

  Args:
    mesh: devices, among which the training rows are shared out.
    train_features: unit-norm, [N, D] float32.
    train_labels: [N] int32 in [0, num_classes).
    test_features: unit-norm, [N_test, D] float32.
    test_labels: [N_test] int32.
    num_classes: number of classes.
    regularisers: weights of the penalty to try, see `heads.fit_logistic`.
    max_iterations: bound on the L-BFGS steps.
    validation_fraction: share of the training rows that judge, see `split_rows`.
    seed: of the split.

  Raises:
    ValueError: there is no regulariser, or a training label lies outside
      [0, num_classes).
  """
  if train_labels.min() < 0 or train_labels.max() >= num_classes:
    raise ValueError(
      f"training labels span {train_labels.min()}..{train_labels.max()}, outside"
      f" [0, {num_classes}): correct `num_classes` or the labels"
    )
  # Sorted so that the first maximum is the setting that wins a tie.
  settings = sorted({float(value) for value in regularisers}, reverse=True)
  if not settings:
    raise ValueError("there are 0 regularisers to try: give at least one")

  rows = heads.SharedRows.put(mesh, train_features, train_labels)

  def fit(fitted: np.ndarray) -> np.ndarray:
    return heads.fit_regularisers(
      mesh,
      rows,
      fitted,
      np.asarray(settings, np.float32),
      num_classes=num_classes,
      max_iterations=max_iterations,
    )

  fitted, judged = split_rows(
    train_labels, validation_fraction=validation_fraction, seed=seed
  )
  validation = heads.head_accuracies(
    fit(fitted), train_features[judged], train_labels[judged]
  )
  every_row = np.arange(len(train_labels))
  test = heads.head_accuracies(fit(every_row), test_features, test_labels)
  return ProbeResult(
    settings[int(np.argmax(validation))],
    dict(zip(settings, validation, strict=True)),
    dict(zip(settings, test, strict=True)),
  )
