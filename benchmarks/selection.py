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
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import faiss
import joblib
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.measurement import peak_bytes, progress
from benchmarks.selection_cases import CASES


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


def missed(result: Result) -> list[str]:
  """The bars that a result misses, in words."""
  bar, got = CASES[result.case].bar, dataclasses.asdict(result)
  low = [f"{k} {got[k]:.6g} < {x:g}" for k, x in bar.at_least.items() if got[k] < x]
  high = [f"{k} {got[k]:.6g} > {x:g}" for k, x in bar.at_most.items() if got[k] > x]
  return low + high


def measure(name: str, *, repeats: int, scale: float) -> Result:
  """Runs a case in this process, which should have run nothing else."""
  threads = joblib.cpu_count()
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
  threads = str(joblib.cpu_count())
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
  title = f"{joblib.cpu_count()} threads each"
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
