"""What a benchmark measures: cases with bars, two sides by turns, peak memory."""

import dataclasses
import functools
import pathlib
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

BLOCK = 4096  # rows of data drawn at once
_ALIGNMENT = 64  # bytes; aligned like this, JAX takes an array without a copy


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


def unit_rows(case: Case, seed: int = 0) -> np.ndarray:
  """Unit-norm data of a case, [N, D] float32; blockwise, in no more memory."""
  rng = np.random.default_rng(seed)
  buffer = np.empty(case.n * case.dim * 4 + _ALIGNMENT, np.uint8)
  offset = -buffer.ctypes.data % _ALIGNMENT
  rows = buffer[offset:][: case.n * case.dim * 4].view(np.float32)
  rows = rows.reshape(case.n, case.dim)
  means = rng.standard_normal((case.components, case.dim), np.float32)
  for start in range(0, case.n, BLOCK):
    block = rows[start : start + BLOCK]
    rng.standard_normal(dtype=np.float32, out=block)
    if case.components:
      block *= case.noise
      block += means[rng.integers(0, case.components, len(block))]
    block /= np.linalg.norm(block, axis=1, keepdims=True)
  return rows


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
  peer_name: str,
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


def resident_bytes() -> int:
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  return pages * resource.getpagesize()


def peak_bytes() -> int:
  unit = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
