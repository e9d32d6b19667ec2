"""Two parts of labelled rows: every row once, every class in both if it can be."""

import numpy as np
import pytest

from clim_jax.data.split import split_rows


def test_split_is_stratified_disjoint_and_seeded():
  labels = np.repeat(np.int32([0, 1, 2]), [50, 30, 20])
  fitted, judged = split_rows(labels, held_out=0.2, seed=3)
  assert sorted(np.concatenate([fitted, judged])) == list(range(100))
  assert np.bincount(labels[judged]).tolist() == [10, 6, 4]
  again = split_rows(labels, held_out=0.2, seed=3)[1]
  other = split_rows(labels, held_out=0.2, seed=4)[1]
  assert again.tolist() == judged.tolist() != other.tolist()


@pytest.mark.parametrize(
  "labels",
  [[0] * 9 + [1], [0] * 10, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]],
  ids=["a class of one row", "one class", "more classes than held-out rows"],
)
def test_small_classes_are_split_all_the_same(labels):
  fitted, judged = split_rows(np.int32(labels), held_out=0.2, seed=0)
  assert (len(fitted), len(judged)) == (8, 2)
  assert sorted(np.concatenate([fitted, judged])) == list(range(10))
