import numpy as np
import pytest

from clim_jax.probes.label_subsets import (
  class_balanced_subset,
  fraction_subset,
  listed_subset,
)

LABELS = np.random.default_rng(0).integers(0, 5, 200).astype(np.int32)


def _subset(seed, labels_per_class=6, labels=LABELS):
  return class_balanced_subset(
    labels, num_classes=5, labels_per_class=labels_per_class, seed=seed
  )


def test_subset_is_balanced_and_without_repeats():
  ids = _subset(0)
  assert ids.dtype == np.int64
  assert len(set(ids.tolist())) == 30
  assert np.bincount(LABELS[ids]).tolist() == [6] * 5


def test_subset_depends_on_the_seed_alone():
  assert _subset(0).tolist() == _subset(0).tolist()
  assert set(_subset(0).tolist()) != set(_subset(1).tolist())


def test_every_row_of_a_class_can_be_drawn():
  drawn = {row for seed in range(100) for row in _subset(seed).tolist()}
  assert drawn == set(range(200))


def test_a_class_may_be_exhausted_but_not_exceeded():
  labels = np.int32([0, 1, 2, 3, 4, 4, 2, 3, 1, 0, 0])
  assert sorted(_subset(0, 2, labels)[2:]) == [1, 2, 3, 4, 5, 6, 7, 8]
  with pytest.raises(
    ValueError, match=r"class 1 has 2 rows.*labels_per_class 3.*lower"
  ):
    _subset(0, 3, labels)


@pytest.mark.parametrize(("fraction", "per_class"), [(0.1, 4), (0.01, 1), (1e-6, 1)])
def test_a_fraction_is_balanced_and_has_every_class(fraction, per_class):
  ids = fraction_subset(LABELS, num_classes=5, fraction=fraction, seed=3)
  assert np.bincount(LABELS[ids]).tolist() == [per_class] * 5


def test_all_labels_are_all_rows_though_classes_differ_in_size():
  ids = fraction_subset(LABELS, num_classes=5, fraction=1.0, seed=0)
  assert ids.tolist() == list(range(200))


def test_a_small_class_gives_all_it_has():
  labels = np.int32([0] * 30 + [1] * 2)
  ids = fraction_subset(labels, num_classes=2, fraction=0.5, seed=0)
  assert np.bincount(labels[ids]).tolist() == [8, 2]


def test_a_list_may_name_folders_and_must_where_names_are_not_unique():
  paths = ["/a/cat/1.JPEG", "/a/dog/1.JPEG"]
  assert listed_subset(["dog/1.JPEG"], 2, paths.__getitem__).tolist() == [1]
  with pytest.raises(ValueError, match=r"both '1\.JPEG'.*CLASS/FILE"):
    listed_subset(["1.JPEG"], 2, paths.__getitem__)


def test_a_list_gives_the_images_of_its_file_names_in_its_order():
  paths = ["/a/cat/1.JPEG", "/a/cat/2.JPEG", "/a/dog/3.JPEG"]
  ids = listed_subset(["3.JPEG\n", "", "1.JPEG"], 3, paths.__getitem__)
  assert ids.tolist() == [2, 0]


@pytest.mark.parametrize(
  ("listed", "message"),
  [
    (["1.JPEG", "x.png", "y.png"], r"2 of 3 listed files.*'x\.png', 'y\.png'"),
    ([], "0 of 0 listed files"),
  ],
)
def test_a_list_of_another_set_is_an_error(listed, message):
  with pytest.raises(ValueError, match=message):
    listed_subset(listed, 1, lambda _: "/a/1.JPEG")
