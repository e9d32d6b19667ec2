"""Classification with a handful of labels per class."""

import functools
from collections.abc import Sequence

import jax
import numpy as np

from clim_jax.probes.heads import fit_logistic, head_accuracies
from clim_jax.probes.label_subsets import class_balanced_subset


@functools.partial(jax.jit, static_argnames=("num_classes",))
def _fit_draws(
  features: jax.Array,
  labels: jax.Array,
  *,
  regulariser: float,
  num_classes: int,
  max_iterations: int,
) -> jax.Array:
  """One head per draw: [R, n, D] and [R, n] to [R, D + 1, C]."""
  return jax.vmap(
    lambda rows, row_labels: fit_logistic(
      rows,
      row_labels,
      regulariser=regulariser,
      num_classes=num_classes,
      max_iterations=max_iterations,
    )
  )(features, labels)


def few_label_probe(
  train_features: np.ndarray,
  train_labels: np.ndarray,
  test_features: np.ndarray,
  test_labels: np.ndarray,
  *,
  num_classes: int,
  labels_per_class: int,
  seeds: Sequence[int],
  regulariser: float,
  max_iterations: int,
) -> list[float]:
  """Test accuracies of logistic regression on class-balanced draws of labels, by seed.

  The regulariser is given, for no label is left over to choose it with.

  Args:
    train_features: unit-norm, [N, D] float32.
    train_labels: [N] int32 in [0, num_classes).
    test_features: unit-norm, [N_test, D] float32.
    test_labels: [N_test] int32.
    num_classes: number of classes.
    labels_per_class: training rows drawn from each class.
    seeds: one draw, and one classifier, for each.
    regulariser: weight of the penalty, see `heads.fit_logistic`.
    max_iterations: bound on the L-BFGS steps.

  Raises:
    ValueError: a class has too few rows.
  """
  subsets = np.stack(
    [
      class_balanced_subset(
        train_labels,
        num_classes=num_classes,
        labels_per_class=labels_per_class,
        seed=seed,
      )
      for seed in seeds
    ]
  )
  heads = _fit_draws(
    train_features[subsets],
    train_labels[subsets],
    regulariser=regulariser,
    num_classes=num_classes,
    max_iterations=max_iterations,
  )
  return head_accuracies(heads, test_features, test_labels)
