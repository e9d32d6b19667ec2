import numpy as np
import pytest

from clim_jax.selection.figures import selection_figures
from clim_jax.selection.positives import Positives, from_clusters, from_neighbours
from clim_jax.selection.search.best import NO_NEIGHBOUR

IMAGES = 40


def _figures(positives, **given):
  nothing = dict.fromkeys(("previous", "assignment", "neighbours", "labels"))
  rng = np.random.default_rng(0)
  return selection_figures(
    positives, **nothing | {"num_centers": 5, "rng": rng} | given
  )


def _overlapping(seed, *, most=9):
  """Runs of one cyclic order of the images: they overlap, none repeats an id."""
  rng = np.random.default_rng(seed)
  ids = np.tile(rng.permutation(IMAGES), 2).astype(np.int32)
  count = rng.integers(0, most + 1, IMAGES).astype(np.int32)
  return Positives(ids, rng.integers(0, IMAGES, IMAGES), count)


def _sets(table):
  return [set(table.of(i).tolist()) for i in range(len(table.count))]


def _neighbours(seed, images=IMAGES, count=6):
  rng = np.random.default_rng(seed)
  return np.stack(
    [rng.permutation(np.delete(np.arange(images), i))[:count] for i in range(images)]
  ).astype(np.int32)


def test_counts_are_those_of_sets():
  table = _overlapping(0)
  sizes = [len(s) for s in _sets(table)]
  figures = _figures(table)
  assert figures.keys() == {"empty_share", "mean_positives"}
  assert figures["empty_share"] == sizes.count(0) / IMAGES > 0
  assert figures["mean_positives"] == sum(sizes) / IMAGES


@pytest.mark.parametrize("kind", ["runs", "clusters", "closer", "neighbours"])
def test_precision_is_that_of_sets(kind):
  rng = np.random.default_rng(1)
  assignment = rng.integers(0, 5, IMAGES).astype(np.int32)
  closeness = rng.random(IMAGES).astype(np.float32)
  neighbours = _neighbours(2)
  table = {
    "runs": _overlapping(3),
    "clusters": from_clusters(assignment, closeness, closer=False),
    "closer": from_clusters(assignment, closeness, closer=True),
    "neighbours": from_neighbours(neighbours, rng.random(neighbours.shape) < 0.3),
  }[kind]
  labels = rng.integers(-1, 3, IMAGES)  # −1: no label, so no anchor to judge
  shares = [
    np.mean([labels[p] == labels[i] for p in s])
    for i, s in enumerate(_sets(table))
    if s and labels[i] >= 0
  ]
  figures = _figures(table, labels=labels, neighbours=neighbours)
  assert figures["positives_precision"] == pytest.approx(np.mean(shares))
  raw = np.mean(
    [
      [labels[p] == labels[i] for p in neighbours[i]]
      for i in range(IMAGES)
      if labels[i] >= 0
    ]
  )
  assert figures["knn_precision"] == pytest.approx(raw)


def test_cluster_sizes_count_empty_clusters():
  assignment = np.int32([3, 3, 3, 0, 0, 1])
  table = from_clusters(assignment, np.zeros(6, np.float32), closer=False)
  figures = _figures(table, assignment=assignment)
  names = ("cluster_min", "cluster_median", "cluster_max", "cluster_empty")
  assert [figures[name] for name in names] == [0, 1, 3, 2]


def test_expected_empty_share_is_one_in_the_rivals_plus_one():
  # Anchors with 2, 1, 0 and 0 neighbours of their own cluster.
  assignment = np.int32([0, 0, 0, 1])
  neighbours = np.int32([[1, 2], [3, 0], [3, NO_NEIGHBOUR], [NO_NEIGHBOUR] * 2])
  table = from_neighbours(neighbours, np.zeros((4, 2), bool))
  figures = _figures(table, assignment=assignment, neighbours=neighbours)
  assert figures["expected_empty_share"] == pytest.approx((1 / 3 + 1 / 2 + 1 + 1) / 4)


def test_turnover_is_the_share_of_drawn_positives_that_are_new():
  # At most one positive an image, so that the draw is known.
  new, old = _overlapping(4, most=1), _overlapping(5, most=25)
  fresh = [not (n <= o) for n, o in zip(_sets(new), _sets(old), strict=True) if n]
  turnover = _figures(new, previous=old)["turnover"]
  assert turnover == pytest.approx(np.mean(fresh))
  assert 0.2 < turnover < 0.8


def test_turnover_of_the_same_table_is_zero_and_of_disjoint_ones_is_one():
  neighbours = _neighbours(6)
  first, second = neighbours.copy(), neighbours.copy()
  first[:, 3:] = NO_NEIGHBOUR
  second[:, :3] = NO_NEIGHBOUR
  first, second = (from_neighbours(n, n != NO_NEIGHBOUR) for n in (first, second))
  assert _figures(first, previous=first)["turnover"] == 0
  assert _figures(second, previous=first)["turnover"] == 1
  overlapping = _overlapping(7)
  assert _figures(overlapping, previous=overlapping)["turnover"] == 0


def test_without_positives_shares_of_positives_are_not_numbers():
  none = from_neighbours(_neighbours(8), np.zeros((IMAGES, 6), bool))
  figures = _figures(none, previous=_overlapping(9), labels=np.zeros(IMAGES, int))
  assert figures["empty_share"] == 1
  assert figures["mean_positives"] == 0
  assert np.isnan(figures["turnover"])
  assert np.isnan(figures["positives_precision"])


def test_every_positive_is_new_beside_an_empty_table():
  none = from_neighbours(_neighbours(8), np.zeros((IMAGES, 6), bool))
  assert _figures(_overlapping(9), previous=none)["turnover"] == 1


@pytest.mark.filterwarnings("error")
def test_a_single_image_has_figures():
  neighbours = np.full((1, 3), NO_NEIGHBOUR, np.int32)
  table = from_neighbours(neighbours, neighbours != NO_NEIGHBOUR)
  zeros = np.zeros(1, np.int32)
  figures = _figures(
    table, previous=table, assignment=zeros, neighbours=neighbours, labels=zeros
  )
  assert figures["expected_empty_share"] == 1
  assert np.isnan(figures["knn_precision"])
