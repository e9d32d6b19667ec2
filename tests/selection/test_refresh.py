import dataclasses

import numpy as np
import pytest
import sharded

from clim_jax.selection import refresh
from clim_jax.selection.refresh import Selection
from clim_jax.selection.search import exact
from clim_jax.selection.search.tile_pairs import Tiling

IMAGES = 61
SELECTION = Selection("center_wise", 8, 4, 4, 0, 0)


def _blobs(seed=0):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 4, IMAGES)
  x = np.eye(4, 6)[labels] + 0.1 * rng.normal(size=(IMAGES, 6))
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


def _refresh(bank, *, devices=8, select=SELECTION, epoch=0, labels=None, previous=None):
  table, figures, _ = select(
    sharded.mesh(devices),
    sharded.pad(bank, devices),
    num_images=len(bank),
    epoch=epoch,
    labels=labels,
    previous=previous,
  )
  return table, figures


def _assert_same(one, other):
  for a, b in zip(one, other, strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rule", ["knn", "cluster_closer", "center_wise"])
def test_positives_of_planted_classes_share_the_class(rule):
  bank, labels = _blobs()
  select = dataclasses.replace(SELECTION, rule=rule, num_centers=12)
  table, figures = _refresh(bank, select=select, labels=labels)
  assert figures["positives_precision"] == 1
  assert figures["mean_positives"] > 0.5
  assert len(table.count) == IMAGES


def test_labels_and_the_table_before_change_no_positive():
  bank, labels = _blobs()
  table, _ = _refresh(bank)
  again, figures = _refresh(bank, labels=labels, previous=table)
  _assert_same(table, again)
  assert figures["turnover"] == 0


def test_the_epoch_starts_k_means_anew():
  bank = sharded.unit_rows(0, IMAGES, 5)
  (one, _), (other, _) = (_refresh(bank, epoch=epoch) for epoch in (0, 5))
  assert not np.array_equal(one.count, other.count)


def test_a_pruned_selection_tells_its_recall():
  bank, _ = _blobs()
  pruned = dataclasses.replace(SELECTION, probes=4)  # all there are
  table, figures = _refresh(bank, select=pruned)
  names = ("neighbours_recall", "positives_recall", "positives_exact")
  assert [figures[name] for name in names] == [1, 1, 1]
  _assert_same(table, _refresh(bank)[0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused_by_the_image(value):
  bank = _blobs()[0].copy()
  bank[[17, 40]] = value
  with pytest.raises(FloatingPointError, match=r"2 of 61 images .* image 17;"):
    _refresh(bank)


def test_figures_are_those_that_the_rule_allows():
  bank, labels = _blobs()
  clusters = {"cluster_min", "cluster_median", "cluster_max", "cluster_empty"}
  expected = {
    "knn": {"knn_precision"},
    "cluster": clusters,
    "center_wise": clusters | {"knn_precision", "expected_empty_share"},
  }
  always = {"empty_share", "mean_positives", "positives_precision"}
  for rule, names in expected.items():
    select = dataclasses.replace(SELECTION, rule=rule)
    _, figures = _refresh(bank, select=select, labels=labels)
    assert figures.keys() == names | always


def test_a_second_refresh_compiles_nothing():
  mesh, tiling = sharded.mesh(8), Tiling.of(56, 8, at_most=2048)
  refresh._select_fn.cache_clear()  # other tests used it on other shapes
  for seed in (0, 1):
    _refresh(_blobs(seed)[0][:50], epoch=seed)
  mapped = (
    exact._search_fn(mesh, tiling, 50, SELECTION.num_neighbours, "float32"),
    refresh._kmeans_fn(mesh, SELECTION, 50),
    refresh._select_fn(mesh, "center_wise"),
  )
  assert [function._cache_size() for function in mapped] == [1, 1, 1]
