import jax
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from clim_jax import sharding
from clim_jax.probes import knn
from clim_jax.probes.knn import knn_accuracies, nearest

CLASSES = 4


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
  monkeypatch.setattr(knn, "_BLOCK", 32)


def _draw(seed, rows, noise=1.0, width=8):
  """Unit rows scattered about one direction per class."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, CLASSES, rows).astype(np.int32)
  features = np.eye(CLASSES, width)[labels] + noise * rng.normal(size=(rows, width))
  features /= np.linalg.norm(features, axis=1, keepdims=True)
  return features.astype(np.float32), labels


@pytest.fixture(scope="module")
def sets():
  # 203 and 71 rows: neither is a multiple of any block size below.
  return *_draw(0, 203), *_draw(1, 71)


def _accuracy(sets, *, neighbours=20, temperature=0.07, devices=8, **changes):
  settings = {"num_classes": CLASSES} | changes
  mesh = sharding.make_mesh(jax.devices()[:devices])
  (found,) = knn_accuracies(
    mesh, *sets, settings=[(neighbours, temperature)], **settings
  )
  return found


def _brute_force(sets, *, neighbours, temperature):
  train, train_labels, test, test_labels = sets
  correct = 0
  for row, label in zip(test, test_labels, strict=True):
    similarities = train.astype(np.float64) @ row
    votes = np.zeros(CLASSES)
    for i in np.argsort(-similarities, kind="stable")[:neighbours]:
      votes[train_labels[i]] += np.exp(similarities[i] / temperature)
    correct += votes.argmax() == label
  return correct / len(test)


@pytest.mark.parametrize("block_size", [32, 50, 1000])
@pytest.mark.parametrize(("neighbours", "temperature"), [(1, 0.1), (60, 0.07)])
def test_matches_brute_force_at_any_block_size(
  sets, block_size, neighbours, temperature, monkeypatch
):
  monkeypatch.setattr(knn, "_BLOCK", block_size)
  expected = _brute_force(sets, neighbours=neighbours, temperature=temperature)
  accuracy = _accuracy(sets, neighbours=neighbours, temperature=temperature)
  assert accuracy == expected
  assert 0.3 < accuracy < 0.9  # neither chance nor trivial


@pytest.mark.parametrize("devices", [1, 3])
def test_the_number_of_devices_changes_no_figure(sets, devices):
  for neighbours, temperature in ((1, 0.1), (60, 0.07)):
    settings = {"neighbours": neighbours, "temperature": temperature}
    assert _accuracy(sets, devices=devices, **settings) == _accuracy(sets, **settings)


def test_a_grid_is_the_same_as_its_settings_one_by_one(sets):
  grid = [(1, 0.1), (20, 0.07), (60, 0.5), (20, np.inf)]
  together = knn_accuracies(
    sharding.make_mesh(), *sets, num_classes=CLASSES, settings=grid
  )
  alone = [_accuracy(sets, neighbours=k, temperature=tau) for k, tau in grid]
  assert together == alone
  assert len(set(alone)) > 1


def test_neighbours_are_those_of_a_sorted_product(sets):
  train, labels, queries, _ = sets
  found = nearest(sharding.make_mesh(), train, labels, queries, neighbours=7)
  order = np.argsort(-(queries @ train.T), axis=1, kind="stable")[:, :7]
  np.testing.assert_array_equal(found.labels, labels[order])
  expected = np.take_along_axis(queries @ train.T, order, axis=1)
  np.testing.assert_allclose(found.similarities, expected, rtol=1e-5)


def test_every_training_row_may_be_a_neighbour(sets):
  # Neither a block nor a multiple of one: padding must not vote.
  train, train_labels, test, test_labels = sets
  for rows in (21, 40):
    few = (train[:rows], train_labels[:rows], test, test_labels)
    settings = {"neighbours": rows, "temperature": 0.5}
    assert _accuracy(few, **settings) == _brute_force(few, **settings)
  found = nearest(sharding.make_mesh(), *few[:3], neighbours=40)
  assert (np.sort(found.labels) == np.sort(train_labels[:40])).all()


def test_infinite_temperature_is_the_majority_vote(sets):
  train, train_labels, test, test_labels = sets
  oracle = KNeighborsClassifier(20, metric="cosine").fit(train, train_labels)
  expected = oracle.score(test, test_labels)
  assert _accuracy(sets, temperature=np.inf) == expected
  assert _accuracy(sets, temperature=0.01) != expected


def test_vanishing_temperature_is_the_nearest_neighbour(sets):
  # exp(1 / 1e-4) overflows even float64.
  assert _accuracy(sets, temperature=1e-4) == _accuracy(sets, neighbours=1)


def test_votes_are_weighted_by_similarity():
  # Similarities 0.8, 0.6, 0.6; e^8 against 2 e^6, then e^0.8 against 2 e^0.6.
  train = np.asarray([[0.8, 0.6], [0.6, 0.8], [0.6, -0.8]], np.float32)
  sets = (train, np.int32([0, 1, 1]), np.float32([[1, 0]]), np.int32([0]))
  assert _accuracy(sets, neighbours=3, temperature=0.1) == 1.0
  assert _accuracy(sets, neighbours=3, temperature=1.0) == 0.0


def test_equal_votes_go_to_the_smallest_class():
  train = np.float32([[0.6, 0.8], [0.6, -0.8]])
  sets = (train, np.int32([2, 1]), np.float32([[1, 0]]), np.int32([1]))
  assert _accuracy(sets, neighbours=2) == 1.0


def test_equal_similarities_keep_the_earlier_row_across_blocks(monkeypatch):
  train = np.float32([[1, 0]] * 5)
  sets = (train, np.int32([0, 1, 1, 1, 1]), np.float32([[1, 0]]), np.int32([0]))
  monkeypatch.setattr(knn, "_BLOCK", 2)
  assert _accuracy(sets, neighbours=1) == 1.0


def test_too_many_neighbours_is_an_error(sets):
  with pytest.raises(ValueError, match=r"204 neighbours.*203.*lower `neighbours`"):
    _accuracy(sets, neighbours=204)


def test_label_outside_the_classes_is_an_error(sets):
  with pytest.raises(ValueError, match=r"span 0\.\.3, outside \[0, 3\)"):
    _accuracy(sets, num_classes=3)
