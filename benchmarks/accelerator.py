"""Measures everything on an accelerator: one call, a folder of JSON lines.

  python benchmarks/accelerator.py --out=DIR             one GPU, or a TPU host
  python benchmarks/accelerator.py --out=DIR --quick     every phase small, on a CPU
  python benchmarks/accelerator.py --out=DIR --phases=environment,selection
  python benchmarks/accelerator.py --out=DIR --phases=cifar_step --cases='MoCo v2*'

Each phase is a process of its own with a time limit of its own. It writes its lines to
DIR/PHASE.jsonl at once and all else to DIR/PHASE.log; what fails stops no other. How
each ended is in DIR/phases.jsonl. Needs jax, flax, optax and orbax; PyTorch for the
peers, Pillow for CIFAR-10; neither TensorFlow nor a network. docs/accelerators.md says
what is measured and how to read it.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

_ROOT = pathlib.Path(__file__).parents[1]
# Phases in their order, and the seconds that each may take at most.
PHASES = {
  "environment": 60,
  "agreement": 180,
  "cifar_step": 300,
  "imagenet_step": 900,
  "selection": 300,
  "cifar10": 1800,
  "profile": 300,
}


class Ended(NamedTuple):
  phase: str
  status: str  # done | failed | out of time
  seconds: float
  errors: int  # cases within it that failed, or in which what must hold does not


def command_of(name: str, options: argparse.Namespace) -> list[str]:
  command = [sys.executable, "-m", "benchmarks.accelerator_phases", name]
  command += [f"--out={options.out}", f"--data={options.data}"]
  command += [f"--epochs={options.epochs}", f"--cases={options.cases}"]
  command += [f"--limit-scale={options.limit_scale}"]
  return [*command, *["--quick"] * options.quick]


def run_phase(name: str, options: argparse.Namespace, limit: float) -> Ended:
  """Runs a phase to its end or its limit, with all that it started."""
  path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
  # One phase's programs serve the next, and the next run with the same DIR.
  defaults = {"JAX_COMPILATION_CACHE_DIR": str(options.out / "compiled")}
  if options.quick:  # libtpu without a TPU ends a process that traces
    defaults["JAX_PLATFORMS"] = "cpu"
  lines = options.out / f"{name}.jsonl"
  lines.write_text("")
  started = time.monotonic()
  with (options.out / f"{name}.log").open("w") as log:
    process = subprocess.Popen(
      command_of(name, options),
      cwd=_ROOT,
      env=defaults | os.environ | {"PYTHONPATH": path},
      stdout=log,
      stderr=subprocess.STDOUT,
      start_new_session=True,
    )
    try:
      status = "failed" if process.wait(limit) else "done"
    except subprocess.TimeoutExpired:
      status = "out of time"
    finally:
      if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
  found = [json.loads(line) for line in lines.read_text().splitlines()]
  errors = sum("error" in f or any(v is False for v in f.values()) for f in found)
  return Ended(name, status, round(time.monotonic() - started, 1), errors)


def against_pytorch(lines: list[dict]) -> Iterator[dict]:
  """How many times as fast each case is as its peer; ours with all that it does."""
  peers = {line.get("case"): line for line in lines}
  for line in lines:
    peer = peers.get(f"{line.get('case')}, PyTorch", {})
    for figure, sign in (("images_per_second", 1), ("seconds", -1)):
      if line.get("views") != "given" and figure in line and figure in peer:
        times = round((line[figure] / peer[figure]) ** sign, 3)
        yield {"phase": line["phase"], "case": line["case"], "times_pytorch": times}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--phases", default=",".join(PHASES), help="separated by commas")
  parser.add_argument("--quick", action="store_true", help="small, for a CPU")
  parser.add_argument(
    "--data", type=pathlib.Path, default=_ROOT / "shared" / "data", help="of CIFAR-10"
  )
  parser.add_argument("--epochs", type=int, help="on CIFAR-10; 200, with --quick 2")
  parser.add_argument("--cases", default="*", help="a pattern of those to measure")
  parser.add_argument(
    "--limit-scale", type=float, default=1.0, help="of the phases' time limits"
  )
  options = parser.parse_args(arguments)
  options.phases = options.phases.split(",")
  unknown = set(options.phases) - set(PHASES)
  if unknown:
    parser.error(
      f"no phase {', '.join(sorted(unknown))}; there are {', '.join(PHASES)}"
    )
  options.epochs = options.epochs or (2 if options.quick else 200)
  options.out, options.data = options.out.resolve(), options.data.resolve()
  return options


def main(arguments: list[str] | None = None) -> int:
  """0 if all went well."""
  options = parse(arguments)
  options.out.mkdir(parents=True, exist_ok=True)
  well = True
  for name in options.phases:
    ended = run_phase(name, options, PHASES[name] * options.limit_scale)
    line = json.dumps(ended._asdict())
    print(line, flush=True)
    with (options.out / "phases.jsonl").open("a") as lines:
      lines.write(line + "\n")
    well &= ended.status == "done" and not ended.errors
    found = (options.out / f"{name}.jsonl").read_text().splitlines()
    for compared in against_pytorch([json.loads(line) for line in found]):
      print(json.dumps(compared), flush=True)
  return 0 if well else 1


if __name__ == "__main__":
  sys.exit(main())
