import numpy as np
import pytest
import sharded
from sklearn.neighbors import NearestNeighbors

from clim_jax.selection.search import exact
from clim_jax.selection.search.best import NO_NEIGHBOUR

DEVICES = pytest.mark.parametrize(
  "devices", [1, 3, 8, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 4))]
)
NEIGHBOURS = 20  # more than one group of a tile has


@pytest.fixture
def small_tiles(monkeypatch):
  monkeypatch.setattr(exact, "_TILE_ON_CPU", 32)


def _random():
  return sharded.unit_rows(0, 203, 16)


def _clustered():
  rng = np.random.default_rng(5)
  x = np.repeat(rng.normal(size=(7, 16)), 29, axis=0) + 0.4 * rng.normal(size=(203, 16))
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def _axes():
  """Signed axis vectors: many duplicates, and similarities exactly −1, 0 or 1."""
  rng = np.random.default_rng(2)
  axes = np.concatenate([np.eye(3), -np.eye(3)])
  return axes[rng.integers(0, 6, 61)].astype(np.float32)


def _scikit_learn(bank, count):
  """Ids from float64, checked to be further apart than float32 rounds."""
  bank = bank.astype(np.float64)
  search = NearestNeighbors(n_neighbors=count + 2, metric="cosine", algorithm="brute")
  distances, ids = search.fit(bank).kneighbors(bank)
  np.testing.assert_array_equal(ids[:, 0], np.arange(len(bank)))  # itself
  assert np.diff(distances[:, 1:]).min() > 5e-7  # a few ulps of a cosine near 1
  return ids[:, 1:-1]


@DEVICES
@pytest.mark.parametrize("bank", [_random(), _clustered()], ids=["random", "clustered"])
def test_ids_are_those_of_scikit_learn_on_any_number_of_devices(
  bank, devices, small_tiles
):
  # 203 rows divide neither by the devices nor by the blocks.
  ids = sharded.search(bank, devices, NEIGHBOURS)
  np.testing.assert_array_equal(ids, _scikit_learn(bank, NEIGHBOURS))


def test_ids_are_those_of_scikit_learn_in_one_block():
  ids = sharded.search(_random(), 1, NEIGHBOURS)
  np.testing.assert_array_equal(ids, _scikit_learn(_random(), NEIGHBOURS))


@DEVICES
@pytest.mark.parametrize("count", [5, 60], ids=["ties_at_the_last_place", "all"])
def test_equal_similarities_are_ordered_by_id(devices, count, small_tiles):
  bank = _axes()
  similarity = (bank @ bank.T).astype(int)
  expected = [
    sorted(set(range(61)) - {row}, key=lambda i, s=s: (-s[i], i))[:count]
    for row, s in enumerate(similarity)
  ]
  np.testing.assert_array_equal(sharded.search(bank, devices, count), expected)


@DEVICES
def test_an_image_is_not_its_own_neighbour_even_among_copies(devices, small_tiles):
  bank = np.tile(np.float32([[0.0, 1.0]]), (19, 1))
  expected = [[i for i in range(19) if i != row][:5] for row in range(19)]
  np.testing.assert_array_equal(sharded.search(bank, devices, 5), expected)


@pytest.mark.parametrize("devices", [1, 8])
def test_padding_is_never_a_neighbour(devices, small_tiles):
  # With 5 spare rows a device the last devices hold nothing but copies of images.
  bank = _random()[:41]
  ids = sharded.search(bank, devices, NEIGHBOURS, spare=5)
  assert ids.max() < 41
  np.testing.assert_array_equal(ids, _scikit_learn(bank, NEIGHBOURS))


@pytest.mark.parametrize("devices", [1, 8])
def test_fewer_other_images_than_neighbours_leaves_places_empty(devices, small_tiles):
  ids = sharded.search(_random()[:5], devices, 7)
  np.testing.assert_array_equal(ids[:, :4], _scikit_learn_all(_random()[:5]))
  np.testing.assert_array_equal(ids[:, 4:], NO_NEIGHBOUR)


def _scikit_learn_all(bank):
  search = NearestNeighbors(n_neighbors=len(bank), metric="cosine", algorithm="brute")
  return search.fit(bank).kneighbors(bank, return_distance=False)[:, 1:]


@pytest.mark.parametrize("devices", [1, 8])
def test_a_single_image_has_no_neighbour(devices):
  ids = sharded.search(_random()[:1], devices, 3)
  np.testing.assert_array_equal(ids, [[NO_NEIGHBOUR] * 3])
