"""A long run of tiny steps: does memory grow, are files left open?"""

import pathlib
import resource
import time

import numpy as np

from benchmarks.fault_families import session
from benchmarks.fault_families.family import Family

# A step is some milliseconds: a selection and a checkpoint every 1,100 steps.
_TINY = {
  "batch_size": 16,
  "views.sides": 4,
  "views.evaluation_side": 4,
  "checkpoint.every_epochs": 12,
  "selection.refresh_epochs": 12,
  "log.every_steps": 20,
  "moco.queue_size": 64,
}
_STEPS_AN_EPOCH = 89
_EVERY = 5.0  # seconds from one look to the next
_MOST = 1.0  # KiB a step that resident memory may grow by
_BEGINNING = 0.3  # of the run, in which programs are compiled and caches filled


def soak(family: Family) -> None:
  """Reports memory and open files of one run."""
  steps = family.sized(20_000, 1_000)
  changes = {key.replace(".", "__"): value for key, value in _TINY.items()}
  epochs = -(-steps // _STEPS_AN_EPOCH)
  workdir = family.scratch / "run"
  child = session.start(workdir, epochs=epochs, **changes)
  looks = []
  try:
    while child.poll() is None:
      look = _look(child.pid, workdir)
      if look is not None:
        looks.append(look)
      time.sleep(_EVERY if not family.quick else 0.5)
  finally:
    session.end(child)
  if child.returncode:
    family.report(
      "soak", f"exit code {child.returncode}: {session.said(workdir)[-500:]}"
    )
    return
  step, resident, files = np.float64(looks).T
  # The last quarter of the looks may be of the evaluation.
  late = (step > _BEGINNING * step.max()) & (step < step.max())
  slope = np.polyfit(step[late], resident[late] / 1024, 1)[0]
  refreshes = session.said(workdir).count("selection at epoch")
  family.report(
    "memory",
    f"grows by {slope:.2f} KiB a step" if slope > _MOST and not family.quick else "",
    steps=int(session.records(workdir)[-1]["step"]),
    selections=refreshes,
    looks=int(late.sum()),
    kib_a_step=round(float(slope), 4),
    mib_first_and_last=[round(float(m) / 2**20) for m in resident[late][[0, -1]]],
  )
  spread = files[late]
  grown = float(np.polyfit(step[late], spread, 1)[0] * step.max())
  family.report(
    "open files",
    f"{grown:.0f} more at the end" if grown > 5 else "",
    least=int(spread.min()),
    most=int(spread.max()),
    grown_over_the_run=round(grown, 2),
  )


def _look(pid: int, workdir: pathlib.Path) -> tuple[int, int, int] | None:
  """Last logged step, resident bytes, open files; None if it logs nothing yet."""
  log = workdir / "metrics.jsonl"
  try:
    lines = log.read_text().count("\n")
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    files = len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))
  except OSError:
    return None
  if not lines:
    return None
  return lines * int(_TINY["log.every_steps"]), pages * resource.getpagesize(), files
