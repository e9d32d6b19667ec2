"""Times the selection against FAISS on the CPU, and counts what both find.

  python benchmarks/selection.py [--case NAME ...] [--repeats 5] [--scale 1.0]
                                 [--json] [--bars]

Every case runs in a process of its own, whose peak memory, of data and both sides
together, is reported. There, after one warm-up of each side, which also compiles,
ours and the peer run by turns with as many threads each as there are processors;
seconds are medians over the repeats. `ratio` is the peer's seconds over ours.

- knn_*: exact search among random unit vectors; FAISS builds and searches an
  IndexFlatIP. `recall`: share of our neighbours that FAISS found too.
- kmeans_*: spherical k-means of a mixture of Gaussians, with seeds and the final
  assignment; FAISS trains on every row. `inertia_ratio`: our sum of 1 − cosine to
  the own center over FAISS's, mean over repeats, each with another seed.
- selection_*: a whole refresh by the center-wise rule; FAISS's k-means and search
  with the rule in NumPy. `recall`: share of the positives that the NumPy rule finds,
  given our clusters and FAISS's neighbours, which are ours too;
  `positives_precision`: the reverse share.
- pruned_*: search of two clusters each; the peer is our exact search, whose second
  run is timed once. `recall` and `positives_precision` compare positives likewise,
  `neighbour_recall` the neighbours before the rule.
- memory_*: one exact search, whose seconds include compiling. `beyond_bank_bytes`:
  peak memory, less that of the process with the runtime loaded by a small search,
  less the bank. Needs Linux.

`--scale` multiplies the number of rows; `--bars` exits with 1 if a case misses its
bar, which holds for scale 1.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import faiss
import jax
import numpy as np
from jax.sharding import Mesh
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks import peers
from clim_jax import sharding
from clim_jax.selection import kmeans, neighbours, pruned
from clim_jax.selection.positives import Positives
from clim_jax.selection.refresh import Selection

_BLOCK = 4096  # rows of data drawn at once
_ALIGNMENT = 64  # bytes; aligned like this, JAX takes an array without a copy
_ITERATIONS = 10  # of k-means
_PROBES = 2
_FAISS = f"faiss {faiss.__version__}"


class Bar(NamedTuple):
  """What a case must reach, by key of the result."""

  at_least: dict[str, float]
  at_most: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Case:
  measure: Callable[["Case", int], "Measured"]
  n: int
  dim: int
  bar: Bar
  neighbours: int = 20
  centers: int = 0
  components: int = 0  # of the mixture; 0: no clusters
  noise: float = 1.0  # around means of unit variance


class Measured(NamedTuple):
  ours_seconds: float
  peer: str | None
  peer_seconds: float | None
  repeats: int
  figures: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Result:
  """One line of the output; None where a case has no such figure."""

  case: str
  n: int
  dim: int
  threads: int
  repeats: int
  ours_seconds: float
  peer: str | None
  peer_seconds: float | None
  ratio: float | None
  peak_rss_bytes: int
  recall: float | None = None
  positives_precision: float | None = None
  neighbour_recall: float | None = None
  inertia_ratio: float | None = None
  beyond_bank_bytes: int | None = None


def unit_rows(case: Case, seed: int = 0) -> np.ndarray:
  """Unit-norm data of a case, [N, D] float32; blockwise, in no more memory."""
  rng = np.random.default_rng(seed)
  buffer = np.empty(case.n * case.dim * 4 + _ALIGNMENT, np.uint8)
  offset = -buffer.ctypes.data % _ALIGNMENT
  rows = buffer[offset:][: case.n * case.dim * 4].view(np.float32)
  rows = rows.reshape(case.n, case.dim)
  means = rng.standard_normal((case.components, case.dim), np.float32)
  for start in range(0, case.n, _BLOCK):
    block = rows[start : start + _BLOCK]
    rng.standard_normal(dtype=np.float32, out=block)
    if case.components:
      block *= case.noise
      block += means[rng.integers(0, case.components, len(block))]
    block /= np.linalg.norm(block, axis=1, keepdims=True)
  return rows


def one_device() -> Mesh:
  return sharding.make_mesh(jax.devices()[:1])


def progress(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


def timed(name: str, function: Callable[[], Any]) -> tuple[float, Any]:
  """Seconds of a call, and what it returned."""
  start = time.perf_counter()
  out = function()
  seconds = time.perf_counter() - start
  progress(f"  {name}: {seconds:.2f} s")
  return seconds, out


def alternate(
  ours: Callable[[int], Any],
  peer: Callable[[int], Any],
  compare: Callable[[Any, Any], dict[str, float]],
  *,
  repeats: int,
  peer_name: str = _FAISS,
  peer_repeats: int | None = None,
) -> Measured:
  """Runs both by turns, after a warm-up of each, and compares what they return.

  Args:
    ours: takes the number of the repeat, returns host arrays.
    peer: likewise.
    compare: figures of a pair of results, outside the timing; their means are kept.
    repeats: of ours.
    peer_name: who it is.
    peer_repeats: of the peer if fewer; then its last result serves the others.
  """
  peer_repeats = repeats if peer_repeats is None else peer_repeats
  timed("warm-up of ours", lambda: ours(0))
  timed("warm-up of the peer", lambda: peer(0))
  seconds, peer_seconds, figures = [], [], []
  found = None
  for repeat in range(repeats):
    taken, mine = timed("ours", functools.partial(ours, repeat))
    seconds.append(taken)
    if repeat < peer_repeats:
      taken, found = timed("peer", functools.partial(peer, repeat))
      peer_seconds.append(taken)
    figures.append(compare(mine, found))
  means = {key: statistics.fmean(each[key] for each in figures) for key in figures[0]}
  return Measured(
    statistics.median(seconds),
    peer_name,
    statistics.median(peer_seconds),
    repeats,
    means,
  )


def exact(mesh: Mesh, bank: jax.Array, count: int) -> np.ndarray:
  """Our exact search, to the host."""
  ids = neighbours.exact_neighbours(
    mesh, bank, num_images=len(bank), num_neighbours=count
  )
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
    lambda _: exact(mesh, bank, case.neighbours),
    lambda _: peers.nearest(rows, case.neighbours),
    compare,
    repeats=repeats,
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
  )


def measure_selection(case: Case, repeats: int) -> Measured:
  rows, mesh = unit_rows(case), one_device()
  bank = jax.device_put(rows)
  select = Selection(
    rule="center_wise",
    num_neighbours=case.neighbours,
    num_centers=case.centers,
    kmeans_iterations=_ITERATIONS,
    kmeans_batch_iterations=0,
    kmeans_batch_size=0,
    probes=0,
    seed=0,
  )
  start = {"num_images": case.n, "epoch": 0, "centers": None}
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

  return alternate(ours, peer, compare, repeats=repeats)


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
    lambda _: exact(mesh, bank, case.neighbours),
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
  small = dataclasses.replace(case, n=min(case.n, _BLOCK))
  exact(mesh, jax.device_put(unit_rows(small)), case.neighbours)
  before = resident_bytes()
  bank = jax.device_put(unit_rows(case))
  seconds, _ = timed("ours", lambda: exact(mesh, bank, case.neighbours))
  beyond = peak_bytes() - before - bank.nbytes
  return Measured(seconds, None, None, 1, {"beyond_bank_bytes": beyond})


def resident_bytes() -> int:
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  return pages * resource.getpagesize()


def peak_bytes() -> int:
  unit = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


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


def missed(result: Result) -> list[str]:
  """The bars that a result misses, in words."""
  bar, got = CASES[result.case].bar, dataclasses.asdict(result)
  low = [f"{k} {got[k]:.6g} < {x:g}" for k, x in bar.at_least.items() if got[k] < x]
  high = [f"{k} {got[k]:.6g} > {x:g}" for k, x in bar.at_most.items() if got[k] > x]
  return low + high


def measure(name: str, *, repeats: int, scale: float) -> Result:
  """Runs a case in this process, which should have run nothing else."""
  threads = os.cpu_count() or 1
  faiss.omp_set_num_threads(threads)
  case = CASES[name]
  rows = max(round(case.n * scale), case.centers, 2 * case.neighbours)
  case = dataclasses.replace(case, n=rows)
  found = case.measure(case, repeats)
  ratio = found.peer_seconds and found.peer_seconds / found.ours_seconds
  return Result(
    name,
    case.n,
    case.dim,
    threads,
    found.repeats,
    found.ours_seconds,
    found.peer,
    found.peer_seconds,
    ratio,
    peak_bytes(),
    **found.figures,
  )


def in_own_process(name: str, *, repeats: int, scale: float) -> Result:
  """Runs this script for one case and reads the result it prints last."""
  # JAX sizes its pool by NPROC, as FAISS and its BLAS do by OMP_NUM_THREADS.
  threads = str(os.cpu_count() or 1)
  threads_each = {"NPROC": threads, "OMP_NUM_THREADS": threads}
  command = [sys.executable, __file__, "--in-this-process", "--case", name]
  command += ["--repeats", str(repeats), "--scale", str(scale)]
  done = subprocess.run(
    command,
    env=os.environ | threads_each | {"JAX_PLATFORMS": "cpu"},
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  return Result(**json.loads(done.stdout.splitlines()[-1]))


def table_of(results: list[Result]) -> Table:
  """For people, 80 columns wide."""
  title = f"{os.cpu_count()} threads each"
  table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 1, 0), pad_edge=False)
  for header in ("case", "ours", "peer", "ratio"):
    table.add_column(header, no_wrap=True)
  table.add_column("figures")
  for x in results:
    table.add_row(
      x.case,
      f"{x.ours_seconds:.2f} s",
      "" if x.peer is None else f"{x.peer_seconds:.2f} s",
      "" if x.ratio is None else f"{x.ratio:.2f}",
      "\n".join(_figures(x)),
    )
  return table


def _figures(result: Result) -> Iterator[str]:
  if result.peer is not None:
    yield f"against {result.peer}"
  for key in ("recall", "positives_precision", "neighbour_recall", "inertia_ratio"):
    value = getattr(result, key)
    if value is not None:
      yield f"{key.replace('_', ' ')} {value:.5f}"
  if result.beyond_bank_bytes is not None:
    yield f"beyond the bank {result.beyond_bank_bytes / 2**20:.0f} MiB"
  yield f"peak memory {result.peak_rss_bytes / 2**20:.0f} MiB"


def results_of(options: argparse.Namespace) -> Iterator[Result]:
  run = measure if options.in_this_process else in_own_process
  for name in options.case or CASES:
    if not options.in_this_process:
      progress(name)
    yield run(name, repeats=options.repeats, scale=options.scale)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--case", nargs="+", choices=CASES, metavar="NAME")
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--scale", type=float, default=1.0)
  parser.add_argument("--json", action="store_true")
  parser.add_argument("--bars", action="store_true")
  parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
  return parser.parse_args(arguments)


def main() -> None:
  options = parse()
  results = []
  for result in results_of(options):
    results.append(result)
    if options.json or options.in_this_process:
      print(json.dumps(dataclasses.asdict(result)), flush=True)
  if not (options.json or options.in_this_process):
    Console().print(table_of(results))
  misses = {x.case: missed(x) for x in results if missed(x)}
  if options.bars and misses:
    sys.exit("\n".join(f"{case}: {', '.join(why)}" for case, why in misses.items()))


if __name__ == "__main__":
  main()
