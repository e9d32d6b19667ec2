"""Does center-wise selection help, by how much, and why: arms × data sets × seeds.

  python benchmarks/ablation.py --list                       # cells and time left
  python benchmarks/ablation.py --cells='digits/*' --minutes=60
  python benchmarks/ablation.py --raw=FOLDER                 # with CIFAR-10, Imagenette
  python benchmarks/ablation.py --report                     # docs/evidence.md, README

Each cell is a run of main.py in a process of its own. A finished one appends a line to
results/ablation.jsonl and is never run again; one that was stopped goes on from its
newest checkpoint. So the grid can be stopped and started at any moment, and run at low
priority beside other work (`nice -n 19`). A GPU takes several small runs beside one
another: --at-once=6. Grids beside one another want a --work of their own each, and
--cells that do not overlap.
"""

import argparse
import concurrent.futures
import fcntl
import fnmatch
import pathlib
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax

from benchmarks import (
  ablation_data,
  ablation_figure,
  ablation_grid,
  ablation_report,
  ablation_results,
)
from benchmarks.ablation_grid import Cell

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "ablation.jsonl"
EVIDENCE = ROOT / "docs" / "evidence.md"
FIGURE = ROOT / "docs" / "evidence.svg"
README = ROOT / "README.md"


def main(arguments: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--list", action="store_true", help="cells, and time left")
  parser.add_argument("--report", action="store_true", help="write docs/evidence.md")
  parser.add_argument(
    "--cells", default="*", help="patterns of names, as of a shell: A,B; A's run first"
  )
  parser.add_argument("--minutes", type=float, help="begin no cell after so many")
  parser.add_argument("--at-once", type=int, default=1, help="runs beside one another")
  parser.add_argument("--raw", type=pathlib.Path, help="folder of raw data sets")
  parser.add_argument("--work", type=pathlib.Path, default=ROOT / "runs" / "ablation")
  options = parser.parse_args(arguments)
  done = ablation_results.read(RESULTS)
  if options.report:
    write_report(done)
    return
  wanted = matching(options.cells)
  if not wanted:
    raise SystemExit(f"no cell is named {options.cells!r}; --list names them all")
  if options.list:
    here = f"{jax.device_count()} × {jax.devices()[0].device_kind}"
    print(listing(wanted, done, hardware=here))
    return
  ablation_data.prepare(options.raw, options.work / "data")
  todo = [cell for cell in wanted if cell.name not in done]
  without = [cell for cell in todo if cell.data.raw and not options.raw]
  if without:
    print(f"{len(without)} cells of photographs are left out: they need --raw")
  todo = [cell for cell in todo if cell not in without]
  options.work.mkdir(parents=True, exist_ok=True)
  with (options.work / "lock").open("w") as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise SystemExit(
        f"another grid works in {options.work}; give a --work of its own"
      ) from None
    run_cells(
      todo, options.work, RESULTS, minutes=options.minutes, at_once=options.at_once
    )


def matching(patterns: str) -> list[Cell]:
  """Cells whose names fit one of several patterns, in the order of these."""
  return list(
    {
      cell.name: cell
      for pattern in patterns.split(",")
      for cell in ablation_grid.cells()
      if fnmatch.fnmatch(cell.name, pattern)
    }.values()
  )


def write_report(done: dict[str, dict]) -> None:
  EVIDENCE.write_text(ablation_report.evidence(done.values()))
  ablation_figure.draw(done.values(), FIGURE)
  table = ablation_report.readme_table(done.values())
  README.write_text(ablation_report.put_table(README.read_text(), table))


def listing(wanted: list[Cell], done: dict[str, dict], *, hardware: str) -> str:
  """A line a cell, and an estimate of the time left from cells that are done."""
  lines, left, unknown = [], 0.0, 0
  for cell in wanted:
    if cell.name in done:
      lines.append(f"done  {done[cell.name]['seconds']:7.0f} s  {cell.name}")
      continue
    seconds = expected_seconds(cell, done, hardware)
    left, unknown = left + (seconds or 0), unknown + (seconds is None)
    about = f"{seconds:7.0f} s" if seconds else "        ?"
    lines.append(f"      {about}  {cell.name}")
  finished = sum(cell.name in done for cell in wanted)
  lines.append(
    f"{finished} of {len(wanted)} cells done; {left / 3600:.1f} h left"
    + (f" and {unknown} cells of unknown time" if unknown else "")
  )
  return "\n".join(lines)


def expected_seconds(cell: Cell, done: dict[str, dict], hardware: str) -> float | None:
  """The median of its arm's cells done on such devices, or of its data set's."""
  same_data = [
    row
    for row in done.values()
    if (row["data"], row["hardware"]) == (cell.data.name, hardware)
  ]
  same_arm = [row for row in same_data if row["arm"] == cell.arm]
  rows = same_arm or same_data
  return statistics.median(row["seconds"] for row in rows) if rows else None


def run_cells(
  cells: list[Cell],
  work: pathlib.Path,
  results: pathlib.Path,
  *,
  minutes: float | None,
  at_once: int = 1,
  run: Callable[[Cell, list[str], pathlib.Path], int] | None = None,
) -> None:
  """Runs them in their order; a line of `results` for each that ends well.

  Args:
    cells: that are not done.
    work: gets a folder and a log for each run; the folder of a finished one is removed.
    results: a .jsonl file.
    minutes: no cell begins after so many.
    at_once: so many run beside one another.
    run: starts a run and returns its exit code; for tests.
  """
  began, writes = time.monotonic(), threading.Lock()

  def run_cell(cell: Cell) -> bool:
    """Whether it began."""
    if minutes is not None and time.monotonic() - began > 60 * minutes:
      return False
    workdir = work / cell.name.replace("/", "_")
    log = workdir.with_name(f"{workdir.name}.txt")
    resumed, commit = workdir.exists(), ablation_results.commit()
    started = time.monotonic()
    code = (run or run_process)(cell, cell.arguments(work / "data", workdir), log)
    seconds = time.monotonic() - started
    with writes:
      if code:
        print(f"{cell.name} ended with {code}; see {log}", flush=True)
        return True
      row = ablation_results.row(
        cell, workdir, commit=commit, seconds=seconds, resumed=resumed
      )
      ablation_results.append(results, row)
      print(
        f"{cell.name}: {seconds:.0f} s, {ablation_results.summary(row)}", flush=True
      )
    shutil.rmtree(workdir)
    return True

  with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
    left = list(pool.map(run_cell, cells)).count(False)
  if left:
    print(f"{minutes:g} minutes are over; {left} cells are left")


def run_process(cell: Cell, arguments: list[str], log: pathlib.Path) -> int:
  """main.py, or the arm that takes its place, to its end."""
  if cell.arm in ablation_grid.SCIENCE:
    script = [str(ROOT / "benchmarks" / "ablation_arms.py"), cell.arm]
  elif cell.arm in ablation_grid.PEERS:
    script = [str(ROOT / "benchmarks" / f"ablation_{cell.arm}.py")]
  else:
    script = [str(ROOT / "main.py")]
  with log.open("a") as file:
    file.write(f"\n# {cell.name}\n")
    file.flush()
    command = [sys.executable, *script, *arguments]
    return subprocess.run(
      command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False
    ).returncode


if __name__ == "__main__":
  main()
