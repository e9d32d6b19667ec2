import jax
import numpy as np
import pytest
import sharded

from clim_jax import sharding
from clim_jax.selection.search import exact, pruned, recall
from clim_jax.selection.search.best import NO_NEIGHBOUR
from clim_jax.selection.search.recall import recall_figures, search_sample
from clim_jax.selection.search.tile_pairs import Tiling

IMAGES, CENTERS, NEIGHBOURS = 611, 12, 9
DEVICES = pytest.mark.parametrize(
  "devices", [1, 8, pytest.param(3, marks=pytest.mark.slow)]
)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
  monkeypatch.setattr(pruned, "_TILE_ON_CPU", 32)
  monkeypatch.setattr(recall, "_ROWS", 8)


def _clustered():
  rng = np.random.default_rng(5)
  x = rng.normal(size=(CENTERS, 8))[rng.integers(0, CENTERS, IMAGES)]
  x += 0.5 * rng.normal(size=x.shape)
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


BANK = _clustered()


def _search(clustering, devices, probes, bank=BANK):
  mesh = sharded.mesh(devices)
  ids = pruned.pruned_neighbours(
    mesh,
    sharding.put_rows(mesh, sharded.pad(bank, devices)),
    clustering.centers,
    clustering.assignment,
    num_images=len(bank),
    num_neighbours=NEIGHBOURS,
    probes=probes,
  )
  return np.asarray(ids)[: len(bank)]


def _within(clustering, probes):
  """Neighbours among the probed clusters alone, by NumPy; rows of sets' worst."""
  centers = clustering.centers.astype(np.float64)
  probed = np.argsort(-(centers @ centers.T), axis=1)[:, :probes]
  similarity = BANK.astype(np.float64) @ BANK.T
  np.fill_diagonal(similarity, -np.inf)
  member = (probed[clustering.assignment][:, :, None] == clustering.assignment).any(1)
  return np.sort(np.where(member, similarity, -np.inf), axis=1)[:, ::-1][:, :NEIGHBOURS]


@DEVICES
def test_all_clusters_probed_is_the_exact_search(devices):
  clustering = sharded.cluster(BANK, devices, CENTERS, 4)
  found = _search(clustering, devices, CENTERS)
  np.testing.assert_array_equal(found, sharded.search(BANK, devices, NEIGHBOURS))


@DEVICES
@pytest.mark.parametrize("probes", [1, 3])
def test_nothing_of_a_probed_cluster_is_missed(devices, probes):
  clustering = sharded.cluster(BANK, devices, CENTERS, 4)
  found = _search(clustering, devices, probes)
  similarity = np.sum(BANK[found].astype(np.float64) * BANK[:, None], axis=2)
  similarity[found == NO_NEIGHBOUR] = -np.inf
  # Rows of other clusters in the same tiles may only make it better.
  assert (similarity >= _within(clustering, probes) - 1e-6).all()
  assert (found != np.arange(IMAGES)[:, None]).all()
  assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in found)


def test_few_probes_compare_few_tiles():
  clustering = sharded.cluster(BANK, 1, CENTERS, 4)
  exact = sharded.search(BANK, 1, NEIGHBOURS)
  assert not np.array_equal(_search(clustering, 1, 1), exact)


def test_searching_other_clusters_compiles_nothing():
  tiling = Tiling.of(IMAGES, 1, at_most=32)
  mapped = exact._search_fn(sharded.mesh(1), tiling, IMAGES, NEIGHBOURS, "float32")
  pairs = set()
  mapped.clear_cache()
  for seed in range(3):
    rng = jax.random.key(seed)
    clustering = sharded.cluster(BANK, 1, CENTERS, 4, rng=rng)
    _search(clustering, 1, 2)
    visits = np.asarray(pruned._probes_fn(2)(clustering.centers))
    clusters = np.sort(clustering.assignment)
    pairs.add(len(pruned._tiles_of_probes(clusters, visits, tiling)))
  assert len(pairs) > 1  # else there was nothing to test
  assert mapped._cache_size() == 1


def test_clusters_without_a_member_are_probed_in_vain():
  # One image twelve times over: all but one cluster are empty.
  bank = np.tile(BANK[:1], (50, 1))
  clustering = sharded.cluster(bank, 1, CENTERS, 2)
  found = _search(clustering, 1, CENTERS, bank)
  assert ((found >= 0) & (found < 50)).all()
  assert (found != np.arange(50)[:, None]).all()


@pytest.mark.parametrize("devices", [1, 8])
def test_a_sample_is_searched_as_the_whole(devices):
  sample = np.int32([3, 610, 77, 0, 5, 200, 201, 202, 9])  # not a multiple of a block
  mesh = sharded.mesh(devices)
  rows = sharding.put_rows(mesh, sharded.pad(BANK, devices))
  found = search_sample(
    mesh, rows, sample, num_images=IMAGES, num_neighbours=NEIGHBOURS
  )
  exact = sharded.search(BANK, devices, NEIGHBOURS)
  np.testing.assert_array_equal(found, exact[sample])


def test_recall_counts_what_was_missed_and_what_is_too_much():
  sample = np.int32([0, 1])
  exact = np.int32([[1, 2], [0, 3]])
  found = np.int32([[1, 3], [3, NO_NEIGHBOUR]])
  assignment = np.int32([0, 0, 0, 0])
  closeness = np.float32([0.1, 0.2, 0.3, 0.4])
  figures = recall_figures(
    sample, exact, found, assignment, closeness, rule="center_wise"
  )
  # Neighbours found: 0-1 and 1-3 of four. Positives by the exact search: 0-1, 0-2,
  # 1-3; selected: 0-1, 0-3, 1-3.
  assert figures == pytest.approx(
    {"neighbours_recall": 2 / 4, "positives_recall": 2 / 3, "positives_exact": 2 / 3}
  )
