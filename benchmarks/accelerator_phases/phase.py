"""What every phase is given: where its lines go, its sizes, and a clock."""

import contextlib
import dataclasses
import fnmatch
import json
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax

ROOT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Phase:
  """One phase of a run of benchmarks/accelerator.py."""

  name: str
  out: pathlib.Path  # its folder
  quick: bool  # small enough for a CPU
  data: pathlib.Path  # where CIFAR-10 lies
  epochs: int  # of the runs on CIFAR-10
  cases: str  # a pattern of those that are measured
  limit_scale: float  # of time limits

  def sized(self, full: Any, quick: Any) -> Any:
    return quick if self.quick else full

  def report(self, case: str, **figures: Any) -> None:
    """Writes a line at once: what is measured later may fail."""
    line = json.dumps({"phase": self.name, "case": case} | figures)
    with (self.out / f"{self.name}.jsonl").open("a") as lines:
      lines.write(line + "\n")
    print(line, flush=True)

  def wants(self, case: str) -> bool:
    return fnmatch.fnmatch(case, self.cases)

  @contextlib.contextmanager
  def attempt(self, case: str) -> Any:
    """A case whose failure is reported and does not stop the phase."""
    try:
      yield
    except Exception as error:  # whatever it is: the others are still to come
      self.report(case, error=f"{type(error).__name__}: {error}"[:2000])

  def peer(self, case: str, module: str, seconds: float, **options: Any) -> None:
    """Runs a peer of this package in a process of its own and reports its figures.

    Before JAX takes its share of the device's memory.
    """
    if not self.wants(case):
      return
    with self.attempt(case):
      done = subprocess.run(
        [sys.executable, "-m", f"{__package__}.{module}", json.dumps(options)],
        cwd=ROOT,
        timeout=seconds * self.limit_scale,
        capture_output=True,
        text=True,
      )
      if done.returncode:
        raise RuntimeError(done.stderr.strip()[-1500:])
      self.report(case, **json.loads(done.stdout.strip().splitlines()[-1]))


def seconds_of(function: Callable[[], Any], *, repeats: int) -> float:
  """Median of a call until its arrays are there, after one that compiles."""
  jax.block_until_ready(function())
  taken = []
  for _ in range(repeats):
    start = time.perf_counter()
    jax.block_until_ready(function())
    taken.append(time.perf_counter() - start)
  return statistics.median(taken)


def peak_memory_gib() -> float | None:
  """Of the first device since the process began, where it tells."""
  stats = jax.devices()[0].memory_stats() or {}
  peak = stats.get("peak_bytes_in_use")
  return None if peak is None else round(peak / 2**30, 3)
