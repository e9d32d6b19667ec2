"""Holds a plan against what its run then took.

  python benchmarks/plan.py --config=digits
  python benchmarks/plan.py --config=imagenette --config.data.path=FOLDER \
    --config.model.stem=imagenet --config.epochs=2 --config.selection.warmup_epochs=1

Plans, then trains with the same flags in a fresh process, each in a new folder below
--out. Time is that from the first line of the run to its last step; the evaluation
comes after it. Memory is the largest resident size up to there. Fails if the time is
more than 25% off, or the memory 20%. Linux alone, and a machine that does nothing else.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parent.parent
_MAIN = [sys.executable, "-u", str(ROOT / "main.py")]
_LIMITS = {"seconds": 0.25, "peak memory, GB": 0.2}


def planned(flags: list[str], workdir: pathlib.Path) -> dict[str, float]:
  """What plan.json says."""
  command = [*_MAIN, "plan", *flags, f"--workdir={workdir}"]
  subprocess.run(command, check=True, stdout=sys.stderr)
  record = json.loads((workdir / "plan.json").read_text())
  memory = record["process_bytes"] / 1e9
  return {"seconds": record["seconds"]["total"], "peak memory, GB": memory}


def taken(flags: list[str], workdir: pathlib.Path) -> dict[str, float]:
  """What the run takes until its last step; then it is left to end."""
  command = [*_MAIN, *flags, f"--workdir={workdir}"]
  run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
  started, found = 0.0, {}
  for line in run.stdout:
    print(line, end="", file=sys.stderr)
    if line.startswith("training on"):
      started = time.monotonic()
    if (step := re.match(r"step (\d+)/(\d+) ", line)) and step[1] == step[2]:
      found["seconds"] = time.monotonic() - started
      status = pathlib.Path(f"/proc/{run.pid}/status").read_text()
      kilobytes = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])
      found["peak memory, GB"] = kilobytes * 1024 / 1e9
  if run.wait() or not found:
    sys.exit(f"the run ended with {run.returncode} before its last step was seen")
  return found


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--out", help="a folder; by default a temporary one")
  options, flags = parser.parse_known_args()
  out = pathlib.Path(options.out or tempfile.mkdtemp())
  before = planned(flags, out / "plan")
  after = taken(flags, out / "run")
  off = {what: before[what] / after[what] - 1 for what in _LIMITS}
  for what in _LIMITS:
    print(
      f"{what}: planned {before[what]:.3g}, taken {after[what]:.3g}, {off[what]:+.0%}"
    )
  sys.exit(any(abs(off[what]) > limit for what, limit in _LIMITS.items()))


if __name__ == "__main__":
  main()
