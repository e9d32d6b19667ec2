"""Linear probe on fixed features: penalties judged on held-out rows, refit on all."""

from collections.abc import Sequence

import numpy as np
from jax.sharding import Mesh

from clim_jax.probes import heads


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
  split: tuple[np.ndarray, np.ndarray],
) -> tuple[list[float], list[float]]:
  """Accuracies of logistic regression by L-BFGS for each penalty, in [0, 1].

  Args:
    mesh: devices, among which the training rows are shared out.
    train_features: unit-norm, [N, D] float32.
    train_labels: [N] int32 in [0, num_classes).
    test_features: unit-norm, [N_test, D] float32.
    test_labels: [N_test] int32.
    num_classes: number of classes.
    regularisers: weights of the penalty to try, see `heads.fit_logistic`.
    max_iterations: bound on the L-BFGS steps.
    split: ids of the training rows to fit on and of those to judge on.

  Returns:
    Fit on a part of the training rows, on the rest; and fit on all, on the test rows.
  """
  rows = heads.SharedRows.put(mesh, train_features, train_labels)
  fitted, judged = split

  def fit(fitted: np.ndarray) -> np.ndarray:
    return heads.fit_regularisers(
      mesh,
      rows,
      fitted,
      np.asarray(regularisers, np.float32),
      num_classes=num_classes,
      max_iterations=max_iterations,
    )

  validation = heads.head_accuracies(
    fit(fitted), train_features[judged], train_labels[judged]
  )
  every_row = np.arange(len(train_labels))
  return validation, heads.head_accuracies(fit(every_row), test_features, test_labels)
