"""The cases of the selection benchmark: our side, FAISS's, and the bars."""

import dataclasses
import functools

import faiss
import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks import peers
from benchmarks.measurement import (
  BLOCK,
  Bar,
  Case,
  Measured,
  alternate,
  peak_bytes,
  resident_bytes,
  timed,
  unit_rows,
)
from clim_jax import sharding
from clim_jax.selection import kmeans
from clim_jax.selection.positives import Positives
from clim_jax.selection.refresh import Selection
from clim_jax.selection.search import exact, pruned

_ITERATIONS = 10  # of k-means
_PROBES = 2
_FAISS = f"faiss {faiss.__version__}"


def one_device() -> Mesh:
  return sharding.make_mesh(jax.devices()[:1])


def search_exactly(mesh: Mesh, bank: jax.Array, count: int) -> np.ndarray:
  """Our exact search, to the host."""
  ids = exact.exact_neighbours(mesh, bank, num_images=len(bank), num_neighbours=count)
  return np.asarray(ids)


@functools.cache
def _cluster_fn(mesh: Mesh, num_images: int, num_centers: int):  # noqa: ANN202
  rows, replicated = sharding.ROWS, sharding.REPLICATED
  find = functools.partial(
    kmeans.spherical_kmeans,
    num_images=num_images,
    num_centers=num_centers,
    iterations=_ITERATIONS,
    batch_iterations=0,
    batch_size=0,
  )
  return sharding.spmd(
    find,
    mesh,
    in_specs=(replicated, rows, replicated),
    out_specs=kmeans.Clustering(replicated, rows, rows),
  )


def cluster(
  mesh: Mesh, bank: jax.Array, num_centers: int, rng: jax.Array
) -> peers.Clustering:
  """Our k-means, to the host."""
  return to_host(_cluster_fn(mesh, len(bank), num_centers)(rng, bank, None))


def to_host(found: kmeans.Clustering) -> peers.Clustering:
  return peers.Clustering(*(np.asarray(x) for x in found))


def measure_knn(case: Case, repeats: int) -> Measured:
  rows, mesh = unit_rows(case), one_device()
  bank = jax.device_put(rows)

  def compare(mine: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    return {"recall": peers.share(mine, peers.without_self(theirs))}

  return alternate(
    lambda _: search_exactly(mesh, bank, case.neighbours),
    lambda _: peers.nearest(rows, case.neighbours),
    compare,
    repeats=repeats,
    peer_name=_FAISS,
  )


def measure_kmeans(case: Case, repeats: int) -> Measured:
  rows, mesh = unit_rows(case), one_device()
  bank = jax.device_put(rows)

  def compare(mine: peers.Clustering, theirs: peers.Clustering) -> dict[str, float]:
    ours, peer = (peers.inertia(rows, x.centers, x.assignment) for x in (mine, theirs))
    return {"inertia_ratio": ours / peer}

  return alternate(
    lambda seed: cluster(mesh, bank, case.centers, jax.random.key(seed)),
    lambda seed: peers.cluster(rows, case.centers, _ITERATIONS, seed),
    compare,
    repeats=repeats,
    peer_name=_FAISS,
  )


def measure_selection(case: Case, repeats: int) -> Measured:
  rows, mesh = unit_rows(case), one_device()
  bank = jax.device_put(rows)
  select = Selection(
    rule="center_wise",
    num_neighbours=case.neighbours,
    num_centers=case.centers,
    kmeans_iterations=_ITERATIONS,
    probes=0,
    seed=0,
  )
  start = {"num_images": case.n, "epoch": 0}
  _, found = timed("our clusters", lambda: select.find(mesh, bank, **start))
  clustering = to_host(found.clustering)

  def ours(_: int) -> Positives:
    return select(mesh, bank, **start, labels=None, previous=None).positives

  def peer(seed: int) -> tuple[np.ndarray, np.ndarray]:
    found = peers.cluster(rows, case.centers, _ITERATIONS, seed)
    ids = peers.without_self(peers.nearest(rows, case.neighbours))
    return ids, peers.center_wise(ids, found)

  def compare(
    table: Positives, theirs: tuple[np.ndarray, np.ndarray]
  ) -> dict[str, float]:
    mine = np.full((case.n, case.neighbours), peers.NOBODY, np.int32)
    mine[np.arange(case.neighbours) < table.count[:, None]] = table.ids
    return positives_figures(mine, peers.center_wise(theirs[0], clustering))

  return alternate(ours, peer, compare, repeats=repeats, peer_name=_FAISS)


def measure_pruned(case: Case, repeats: int) -> Measured:
  mesh = one_device()
  bank = jax.device_put(unit_rows(case))
  _, clustering = timed(
    "clusters", lambda: cluster(mesh, bank, case.centers, jax.random.key(0))
  )
  centers = jax.device_put(clustering.centers)

  def ours(_: int) -> np.ndarray:
    ids = pruned.pruned_neighbours(
      mesh,
      bank,
      centers,
      clustering.assignment,
      num_images=case.n,
      num_neighbours=case.neighbours,
      probes=_PROBES,
    )
    return np.asarray(ids)

  def compare(mine: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    kept = (peers.center_wise(ids, clustering) for ids in (mine, theirs))
    return positives_figures(*kept) | {"neighbour_recall": peers.share(theirs, mine)}

  return alternate(
    ours,
    lambda _: search_exactly(mesh, bank, case.neighbours),
    compare,
    repeats=repeats,
    peer_name="exact search of clim_jax",
    peer_repeats=1,
  )


def positives_figures(mine: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
  return {
    "recall": peers.share(wanted, mine),
    "positives_precision": peers.share(mine, wanted),
  }


def measure_memory(case: Case, repeats: int) -> Measured:
  del repeats  # the peak of one run is that of all
  mesh = one_device()
  small = dataclasses.replace(case, n=min(case.n, BLOCK))
  search_exactly(mesh, jax.device_put(unit_rows(small)), case.neighbours)
  before = resident_bytes()
  bank = jax.device_put(unit_rows(case))
  seconds, _ = timed("ours", lambda: search_exactly(mesh, bank, case.neighbours))
  beyond = peak_bytes() - before - bank.nbytes
  return Measured(seconds, None, None, 1, {"beyond_bank_bytes": beyond})


_KNN_BAR = Bar({"ratio": 1.3, "recall": 0.9999}, {})
CASES = {
  "knn_50000x128_20": Case(measure_knn, 50_000, 128, _KNN_BAR),
  "knn_50000x128_40": Case(measure_knn, 50_000, 128, _KNN_BAR, neighbours=40),
  "knn_20000x2048_20": Case(measure_knn, 20_000, 2048, Bar({"ratio": 1.1}, {})),
  "kmeans_50000x128_500": Case(
    measure_kmeans,
    50_000,
    128,
    Bar({"ratio": 1.0}, {"inertia_ratio": 1.01}),
    centers=500,
    components=500,
  ),
  "selection_50000x128": Case(
    measure_selection,
    50_000,
    128,
    Bar({"ratio": 1.5}, {}),
    centers=500,
    components=500,
  ),
  "pruned_200000x128": Case(
    measure_pruned,
    200_000,
    128,
    Bar({"ratio": 10.0, "recall": 0.98}, {}),
    centers=1000,
    components=1000,
    noise=0.7,
  ),
  "memory_200000x128": Case(
    measure_memory, 200_000, 128, Bar({}, {"beyond_bank_bytes": 512 * 2**20})
  ),
}
