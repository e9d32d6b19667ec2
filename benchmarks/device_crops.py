"""Whole default runs with crops cut on the host and on the devices, by turns.

python benchmarks/device_crops.py --json
python benchmarks/device_crops.py --start --json

The first measures images a second and the share of time that waits for data; the second
the seconds from the start of a process to the end of its first step, programs compiled
anew (cold) and kept from an earlier run (warm). --before=DIR takes an older checkout of
this repository for the side of the host. On a machine with nothing else to do.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

_ROOT = pathlib.Path(__file__).parent.parent
_CASES = {"moco_v2": "none", "clim": "center_wise"}
_SIDES = ("host", "device")
_BAR = 1.15  # images a second of the device's side, of the host's
_MOST_WAITING = 0.01


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--epochs", type=int, default=40)
  parser.add_argument("--cases", nargs="+", choices=_CASES, default=list(_CASES))
  parser.add_argument("--start", action="store_true")
  parser.add_argument("--before", type=pathlib.Path)
  parser.add_argument("--json", action="store_true")
  options = parser.parse_args()
  measure = measure_start if options.start else measure_runs
  for case in options.cases:
    found = measure(case, options)
    print(json.dumps(found) if options.json else _line(found), flush=True)


def measure_runs(case: str, options: argparse.Namespace) -> dict[str, Any]:
  """Medians over the repeats of figures of whole runs, side by side."""
  found = {side: [] for side in _SIDES}
  for repeat in range(options.repeats):
    for side in _SIDES if repeat % 2 == 0 else _SIDES[::-1]:
      with tempfile.TemporaryDirectory() as workdir:
        _start(case, side, options, workdir, epochs=options.epochs).wait()
        found[side].append(figures_of(pathlib.Path(workdir) / "metrics.jsonl"))
  figures: dict[str, Any] = {"case": case, "repeats": options.repeats}
  for side, runs in found.items():
    for name in ("images_per_second", "data_wait_fraction"):
      figures[f"{side}_{name}"] = statistics.median(run[name] for run in runs)
  ratio = figures["device_images_per_second"] / figures["host_images_per_second"]
  waits = figures["device_data_wait_fraction"]
  return figures | {"ratio": ratio, "met": ratio >= _BAR and waits < _MOST_WAITING}


def figures_of(metrics: pathlib.Path) -> dict[str, float]:
  """Of a whole run, compiling left out: its laps have equally many steps."""
  records = [json.loads(line) for line in metrics.open()]
  laps = [record for record in records if "images_per_second" in record]
  seconds = [1 / record["images_per_second"] for record in laps]  # of an image
  waited = [s * r["data_wait_fraction"] for s, r in zip(seconds, laps, strict=True)]
  return {
    "images_per_second": len(laps) / sum(seconds),
    "data_wait_fraction": sum(waited) / sum(seconds),
  }


def measure_start(case: str, options: argparse.Namespace) -> dict[str, Any]:
  """Medians over the repeats of seconds to the first record."""
  seconds = {(side, cache): [] for side in _SIDES for cache in ("cold", "warm")}
  for repeat in range(options.repeats):
    for side in _SIDES if repeat % 2 == 0 else _SIDES[::-1]:
      with tempfile.TemporaryDirectory() as programs:
        for cache in ("cold", "warm"):
          taken = _seconds_to_first_record(case, side, options, programs)
          seconds[side, cache].append(taken)
  medians = {
    f"{side}_{cache}_seconds": statistics.median(values)
    for (side, cache), values in seconds.items()
  }
  return {"case": case, "repeats": options.repeats} | medians


def _seconds_to_first_record(
  case: str, side: str, options: argparse.Namespace, programs: str
) -> float:
  with tempfile.TemporaryDirectory() as workdir:
    started = time.perf_counter()
    process = _start(case, side, options, workdir, epochs=1, programs=programs)
    metrics = pathlib.Path(workdir) / "metrics.jsonl"
    while not metrics.exists() or not metrics.stat().st_size:
      if process.poll() is not None:
        raise RuntimeError(f"the run of {case}, {side}, ended before its first step")
      time.sleep(0.01)
    seconds = time.perf_counter() - started
    process.wait()
  return seconds


def _start(
  case: str,
  side: str,
  options: argparse.Namespace,
  workdir: str,
  *,
  epochs: int,
  programs: str = "",
) -> subprocess.Popen:
  """A default run that has no evaluation; with `programs` it logs every step."""
  root = options.before if side == "host" and options.before else _ROOT
  keys = {"epochs": epochs, "selection.rule": _CASES[case], "data.test_fraction": 0.0}
  if root == _ROOT:
    keys |= {"data.crops": side, "report.at_end": False}
  environment = dict(os.environ)
  if programs:
    keys["log.every_steps"] = 1
    environment |= {
      "JAX_COMPILATION_CACHE_DIR": programs,
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
  words = [f"--config.{key}={value}" for key, value in keys.items()]
  return subprocess.Popen(
    [sys.executable, "main.py", "--config=digits", f"--workdir={workdir}", *words],
    cwd=root,
    env=environment,
    stdout=subprocess.DEVNULL,
  )


def _line(found: dict[str, Any]) -> str:
  return ", ".join(
    f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
    for key, value in found.items()
  )


if __name__ == "__main__":
  main()
