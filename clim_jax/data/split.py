"""Rows into two parts, by class."""

import math

import numpy as np
from sklearn.model_selection import train_test_split


def split_rows(
  labels: np.ndarray, *, held_out: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """Divides rows into those that are kept and a share, rounded up, that is held out.

  By class; or, where a class has a single row or a part has fewer rows than there are
  classes, plainly at random.

  Args:
    labels: [N] int.
    held_out: share of the rows, in (0, 1).
    seed: of the split.

  Returns:
    Row ids of the two parts, int64.

  Raises:
    ValueError: from scikit-learn, with the numbers, where a part would be empty.
  """
  sizes = np.unique(labels, return_counts=True)[1]
  held = math.ceil(held_out * len(labels))
  by_class = sizes.min() >= 2 and len(sizes) <= min(held, len(labels) - held)
  kept, held = train_test_split(
    np.arange(len(labels)),
    test_size=held_out,
    random_state=seed,
    stratify=labels if by_class else None,
  )
  return kept, held
