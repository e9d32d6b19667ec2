"""Does to runs what happens to runs, and counts what is lost.

  python benchmarks/faults.py                             everything; an hour
  python benchmarks/faults.py --quick                     those of one process, small
  python benchmarks/faults.py --families=kills,damage

Each family is a process of its own with a time limit of its own. Its trials are JSON
lines in results/faults/FAMILY.jsonl (--out for another folder; those of --quick lie in
runs/faults), and what it said lies beside them. A line a family is printed: tried,
survived, lost. docs/reliability.md says what is promised and which family shows it.
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

_ROOT = pathlib.Path(__file__).parents[1]
# Families in their order, and the seconds that each may take at most.
FAMILIES = {
  "kills": 1800,
  "sigterm": 1200,
  "damage": 1200,
  "disk": 900,
  "read_only": 900,
  "pictures": 1200,
  "configs": 1200,
  "hosts": 600,
  "host_lost": 900,
  "soak": 3600,
}
# Left out of --quick: minutes go by until a process sees that another is gone.
_OF_SEVERAL_PROCESSES = ("hosts", "host_lost")


def command_of(name: str, lines: pathlib.Path, quick: bool) -> list[str]:
  command = [sys.executable, "-m", "benchmarks.fault_families", name]
  return [*command, f"--lines={lines}", *["--quick"] * quick]


def run_family(name: str, options: argparse.Namespace) -> dict[str, float | str]:
  """Tries a family to its end or its limit, with all that it started."""
  lines = options.out / f"{name}.jsonl"
  lines.write_text("")
  started = time.monotonic()
  with (options.out / f"{name}.log").open("w") as log:
    process = subprocess.Popen(
      command_of(name, lines, options.quick),
      cwd=_ROOT,
      env={"JAX_PLATFORMS": "cpu"} | os.environ,
      stdout=log,
      stderr=subprocess.STDOUT,
      start_new_session=True,
    )
    try:
      ended = "failed" if process.wait(FAMILIES[name] * options.limit_scale) else "done"
    except subprocess.TimeoutExpired:
      ended = "out of time"
    finally:
      with contextlib.suppress(ProcessLookupError):  # with all that it has left behind
        os.killpg(process.pid, signal.SIGKILL)
      process.wait()
  found = [json.loads(line) for line in lines.read_text().splitlines()]
  survived = sum(trial["survived"] for trial in found)
  return {
    "family": name,
    "tried": len(found),
    "survived": survived,
    "lost": len(found) - survived,
    "ended": ended,
    "seconds": round(time.monotonic() - started, 1),
  }


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--families", help="by commas")
  parser.add_argument("--quick", action="store_true", help="each family small")
  parser.add_argument("--out", type=pathlib.Path, help="a folder")
  parser.add_argument(
    "--limit-scale", type=float, default=1.0, help="of the families' time limits"
  )
  options = parser.parse_args(arguments)
  default = [
    name for name in FAMILIES if not (options.quick and name in _OF_SEVERAL_PROCESSES)
  ]
  options.families = options.families.split(",") if options.families else default
  unknown = sorted(set(options.families) - set(FAMILIES))
  if unknown:
    there_are = ", ".join(FAMILIES)
    parser.error(f"no family {', '.join(unknown)}; there are {there_are}")
  kept = _ROOT / ("runs" if options.quick else "results") / "faults"
  options.out = (options.out or kept).resolve()
  return options


def main(arguments: list[str] | None = None) -> int:
  """0 if nothing was lost and every family came to its end."""
  options = parse(arguments)
  options.out.mkdir(parents=True, exist_ok=True)
  well = True
  for name in options.families:
    found = run_family(name, options)
    print(json.dumps(found), flush=True)
    with (options.out / "families.jsonl").open("a") as lines:
      lines.write(json.dumps(found) + "\n")
    well &= found["ended"] == "done" and found["tried"] > 0 and not found["lost"]
  return 0 if well else 1


if __name__ == "__main__":
  sys.exit(main())
