import functools

import jax
import numpy as np
import pytest
import sharded
from scipy import stats

from clim_jax.selection.positives import (
  RULES,
  Positives,
  from_clusters,
  from_neighbours,
)
from clim_jax.selection.refresh import Selection
from clim_jax.selection.search.best import NO_NEIGHBOUR

IMAGES, NEIGHBOURS, CENTERS, ITERATIONS, SEED, EPOCH = 61, 12, 5, 3, 7, 2
BANK = sharded.unit_rows(0, IMAGES, 5)
DEVICES = pytest.mark.parametrize("devices", [1, 8])


@functools.cache
def _selected(rule, devices):
  """The sets of positives that a whole refresh selects."""
  select = Selection(rule, NEIGHBOURS, CENTERS, ITERATIONS, 0, SEED)
  table, *_ = select(
    sharded.mesh(devices),
    sharded.pad(BANK, devices),
    num_images=IMAGES,
    epoch=EPOCH,
    labels=None,
    previous=None,
  )
  return _sets(table)


@functools.cache
def _clustering(devices):
  rng = jax.random.fold_in(jax.random.key(SEED), EPOCH)
  return sharded.cluster(BANK, devices, CENTERS, ITERATIONS, rng=rng)


def _sets(table):
  runs = [table.of(image) for image in range(len(table.count))]
  assert all(len(set(run)) == len(run) for run in runs)
  return [set(run.tolist()) for run in runs]


@DEVICES
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "none"])
def test_a_refresh_selects_what_a_double_loop_over_the_conditions_selects(
  rule, devices
):
  # The letters stand here once more: the table of rules is itself under test.
  conditions = {
    "knn": "a",
    "cluster": "b",
    "cluster_closer": "bc",
    "knn_cluster": "ab",
    "center_wise": "abc",
  }[rule]
  similarity = BANK.astype(np.float64) @ BANK.T
  np.fill_diagonal(similarity, -np.inf)
  nearest = np.argsort(-similarity, axis=1)[:, :NEIGHBOURS]
  clusters = _clustering(devices)
  for anchor in range(IMAGES):
    expected = set()
    for other in range(IMAGES):
      holds = {
        "a": other in nearest[anchor],
        "b": clusters.assignment[other] == clusters.assignment[anchor],
        "c": clusters.closeness[other] > clusters.closeness[anchor],
      }
      if other != anchor and all(holds[c] for c in conditions):
        expected.add(other)
    assert _selected(rule, devices)[anchor] == expected


def test_center_wise_is_the_intersection_of_its_conditions():
  each = [_selected(rule, 8) for rule in ("knn", "cluster", "cluster_closer")]
  assert _selected("center_wise", 8) == [
    set.intersection(*s) for s in zip(*each, strict=True)
  ]
  assert any(_selected("center_wise", 8))


def test_only_the_image_nearest_its_center_has_nothing_nearer():
  clusters = _clustering(8)
  empty = [image for image, s in enumerate(_selected("cluster_closer", 8)) if not s]
  nearest = [
    max(np.flatnonzero(clusters.assignment == c), key=lambda i: clusters.closeness[i])
    for c in range(CENTERS)
  ]
  assert sorted(empty) == sorted(nearest)


def test_equally_near_the_center_is_not_nearer():
  assignment = np.int32([1, 1, 0, 1, 1, 3])
  closeness = np.float32([0.5, 0.9, 0.5, 0.5, 0.1, 0.5])
  closer = _sets(from_clusters(assignment, closeness, closer=True))
  assert closer == [{1}, set(), set(), {1}, {0, 1, 3}, set()]


def test_equally_near_neighbours_are_not_nearer():
  # Copies of two images in one cluster: every closeness comes twice.
  bank = np.repeat(np.float32([[1, 0], [0.8, 0.6], [0.6, 0.8]]), 3, axis=0)
  select = Selection("center_wise", 8, 1, 2, 0, 0)
  start = {"labels": None, "previous": None}
  table, *_ = select(sharded.mesh(1), bank, num_images=9, epoch=0, **start)
  near, middle, far = set(range(3)), set(range(3, 6)), set(range(6, 9))
  # The mean direction is nearest (0.8, 0.6); (1, 0) comes last.
  assert _sets(table) == [middle | far] * 3 + [set()] * 3 + [middle] * 3
  assert near.isdisjoint(middle | far)


def test_a_cluster_without_an_image_itself_is_its_positives():
  assignment = np.int32([4, 0, 4, 2, 0, 4])  # 2 is a singleton, 1 and 3 are empty
  table = from_clusters(assignment, np.zeros(6, np.float32), closer=False)
  assert _sets(table) == [{2, 5}, {4}, {0, 5}, set(), {1}, {0, 2}]


def test_kept_neighbours_stay_nearest_first():
  neighbours = np.int32([[3, 1, 2], [0, 2, NO_NEIGHBOUR], [1, 0, 3]])
  kept = np.array([[True, False, True], [True, True, False], [False] * 3])
  table = from_neighbours(neighbours, kept)
  assert [table.of(i).tolist() for i in range(3)] == [[3, 2], [0, 2], []]


def test_every_positive_has_an_equal_share_of_the_uniforms():
  table = Positives(np.int32([9, 8, 7, 6, 5, 4, 3]), np.int64([1]), np.int32([5]))
  uniforms = (np.arange(50) + 0.5) / 50
  drawn = table.draw(np.zeros(50, int), uniforms)
  np.testing.assert_array_equal(drawn, np.repeat([8, 7, 6, 5, 4], 10))
  ends = np.array([0.0, np.nextafter(1, 0)])
  np.testing.assert_array_equal(table.draw(np.zeros(2, int), ends), [8, 4])


def test_draws_are_uniform():
  table = Positives(np.arange(100, 113, dtype=np.int32), np.int64([2]), np.int32([7]))
  uniforms = np.random.default_rng(0).random(7000)
  drawn = table.draw(np.zeros(7000, int), uniforms)
  counts = np.bincount(drawn - 102, minlength=7)
  assert len(counts) == 7
  assert stats.chisquare(counts).pvalue > 0.01  # the seed is fixed


def test_an_image_without_positives_draws_itself():
  table = Positives(np.int32([5, 6]), np.int64([0, 1, 2]), np.int32([1, 0, 0]))
  anchors = np.array([2, 0, 1, 2])
  np.testing.assert_array_equal(table.draw(anchors, np.full(4, 0.99)), [2, 5, 1, 2])


def test_a_table_without_any_positive_draws_the_anchors():
  tables = [
    from_neighbours(np.full((4, 3), NO_NEIGHBOUR, np.int32), np.zeros((4, 3), bool)),
    from_clusters(np.arange(4, dtype=np.int32), np.ones(4, np.float32), closer=False),
    from_clusters(np.zeros(4, np.int32), np.ones(4, np.float32), closer=True),
  ]
  for table in tables:
    anchors = np.array([3, 0, 2])
    np.testing.assert_array_equal(table.draw(anchors, np.full(3, 0.99)), anchors)
    assert _sets(table) == [set()] * 4
