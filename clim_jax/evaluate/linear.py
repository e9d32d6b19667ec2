"""The linear probe: a softmax classifier on frozen features, its setting chosen."""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from sklearn.model_selection import train_test_split

from clim_jax.evaluate import heads


class ProbeResult(NamedTuple):
  """Outcome of a linear probe; a setting is a regulariser or a learning rate."""

  accuracy: float  # on the test set, by the chosen setting refit on every training row
  chosen: float
  validation_accuracy: dict[float, float]  # of every setting, on the held-out rows


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
  train_features: np.ndarray,
  train_labels: np.ndarray,
  test_features: np.ndarray,
  test_labels: np.ndarray,
  *,
  num_classes: int,
  solver: str,
  regularisers: Sequence[float],
  learning_rates: Sequence[float],
  epochs: int,
  batch_size: int,
  max_iterations: int,
  validation_fraction: float,
  seed: int,
) -> ProbeResult:
  """Fits a linear classifier and scores it on the test set.

  Every setting is fit on a part of the training rows and judged on the rest; the best
  is refit on all of them and scored once on the test rows. Of equally good settings
  the stronger regulariser, or the smaller learning rate, is chosen.

  Args:
    train_features: unit-norm, [N, D] float32.
    train_labels: [N] int32 in [0, num_classes).
    test_features: unit-norm, [N_test, D] float32.
    test_labels: [N_test] int32.
    num_classes: number of classes.
    solver: "lbfgs" tries `regularisers`, full batch, at most `max_iterations` steps;
      "sgd" tries `learning_rates` with momentum, no weight decay and MoCo's two
      drops of the rate, for `epochs` epochs of batches of `batch_size`.
    regularisers: read by "lbfgs" alone, as is `max_iterations`.
    learning_rates: read by "sgd" alone, as are `epochs` and `batch_size`.
    epochs: passes over the rows.
    batch_size: rows of a step, or all rows where there are fewer.
    max_iterations: bound on the L-BFGS steps.
    validation_fraction: share of the training rows that judge, see `split_rows`.
    seed: of the split and of the order of the batches.

  Returns:
    Test accuracy, the setting chosen, and every setting's validation accuracy.

  Raises:
    ValueError: the solver is unknown, it has no setting to try, or a training label
      lies outside [0, num_classes).

  Reference: He et al. 2020 (arXiv 1911.05722), section 4.1, for the schedule of "sgd".
  """
  if train_labels.min() < 0 or train_labels.max() >= num_classes:
    raise ValueError(
      f"training labels span {train_labels.min()}..{train_labels.max()}, outside"
      f" [0, {num_classes}): correct `num_classes` or the labels"
    )
  # Sorted so that the first maximum is the setting that wins a tie.
  if solver == "lbfgs":
    settings = sorted({float(value) for value in regularisers}, reverse=True)
    fit = functools.partial(heads.fit_regularisers, max_iterations=max_iterations)
  elif solver == "sgd":
    settings = sorted({float(value) for value in learning_rates})
    fit = functools.partial(
      heads.fit_learning_rates,
      rng=jax.random.key(seed),
      epochs=epochs,
      batch_size=batch_size,
    )
  else:
    raise ValueError(f"solver is {solver!r}: set it to 'lbfgs' or 'sgd'")
  if not settings:
    raise ValueError(
      f"solver {solver!r} has 0 settings to try: fill `regularisers` for 'lbfgs',"
      " `learning_rates` for 'sgd'"
    )

  fitted, judged = split_rows(
    train_labels, validation_fraction=validation_fraction, seed=seed
  )
  fitted_heads = fit(
    train_features[fitted],
    train_labels[fitted],
    np.asarray(settings, np.float32),
    num_classes=num_classes,
  )
  validation = heads.head_accuracies(
    fitted_heads, train_features[judged], train_labels[judged]
  )
  chosen = settings[int(np.argmax(validation))]
  fitted_heads = fit(
    train_features,
    train_labels,
    np.asarray([chosen], np.float32),
    num_classes=num_classes,
  )
  accuracy = heads.head_accuracies(fitted_heads, test_features, test_labels)[0]
  return ProbeResult(accuracy, chosen, dict(zip(settings, validation, strict=True)))
