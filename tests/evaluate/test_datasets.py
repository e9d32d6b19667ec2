"""What of a set can be judged on."""

import numpy as np

from clim_jax.data.source import About, ArraySource
from clim_jax.evaluate.datasets import labelled_set


def source(labels, part=""):
  pixels = np.zeros((len(labels), 2, 2, 3), np.uint8)
  pixels += np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
  return ArraySource(pixels, np.asarray(labels), About(part))


def test_images_without_a_label_are_left_out():
  data = labelled_set("some", source([-1, 5, 7, -1]), source([7, -1], "its own, val"))
  assert data.train.images[:, 0, 0, 0].tolist() == [1, 2]
  assert data.train_labels.tolist() == [0, 1]
  assert data.test.num_images == 1
  assert data.test_labels.tolist() == [1]
  assert data.test_part == "its own, val"


def test_a_set_whose_labels_are_all_known_is_not_copied():
  train, test = source([0, 1]), source([1])
  data = labelled_set("some", train, test)
  assert data.train is train
  assert data.test is test


def test_without_a_label_in_a_part_there_is_no_set():
  assert labelled_set("some", source([-1, -1]), source([0])) is None
  assert labelled_set("some", source([0]), source([-1])) is None
  assert labelled_set("some", source([0]), None) is None
