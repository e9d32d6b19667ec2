"""A long run of tiny steps: does memory grow, are files left open?"""

import pathlib
import re
import time
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.fault_families import session
from benchmarks.fault_families.family import Family

# A step is some milliseconds. Of arrays an epoch has 89 steps: a selection and a
# checkpoint every 1,068.
_TINY = {
  "batch_size": 16,
  "views.sides": 4,
  "views.evaluation_side": 4,
  "checkpoint.every_epochs": 12,
  "selection.refresh_epochs": 12,
  "log.every_steps": 20,
  "moco.queue_size": 64,
}
_EVERY = 5.0  # seconds from one look to the next
_MOST = 1.0  # KiB a step that memory may grow by
_BEGINNING = 0.3  # of the run, in which programs are compiled and caches filled


def soak(family: Family) -> None:
  """Reports memory and open files of a run on arrays, and of one on files."""
  _soak(family, "arrays", epochs=family.sized(225, 12))
  if not family.quick:  # a selection, and so new pipelines, every 12 steps
    files = _files(family)
    _soak(family, "files", epochs=250, selection__refresh_epochs=1, **files)


def _files(family: Family) -> dict[str, str]:
  folder = family.scratch / "files"
  folder.mkdir()
  for number in range(200):
    Image.new("RGB", (12, 12), (number, 0, 0)).save(folder / f"{number:03}.png")
  return {"data__source": "folder", "data__path": str(folder)}


def _soak(family: Family, what: str, **changes: Any) -> None:
  tiny = {key.replace(".", "__"): value for key, value in _TINY.items()}
  workdir = family.scratch / what
  child = session.start(workdir, **tiny | changes)
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
    family.report(what, f"exit code {child.returncode}: {session.said(workdir)[-500:]}")
    return
  step, held, files = np.float64(looks).T
  # The last quarter of the looks may be of the evaluation.
  late = (step > _BEGINNING * step.max()) & (step < step.max())
  slope = np.polyfit(step[late], held[late] / 1024, 1)[0]
  refreshes = session.said(workdir).count("selection at epoch")
  family.report(
    f"{what}: memory",
    f"grows by {slope:.2f} KiB a step" if slope > _MOST and not family.quick else "",
    steps=int(session.records(workdir)[-1]["step"]),
    selections=refreshes,
    looks=int(late.sum()),
    kib_a_step=round(float(slope), 4),
    mib_first_and_last=[round(float(m) / 2**20) for m in held[late][[0, -1]]],
  )
  spread = files[late]
  grown = float(np.polyfit(step[late], spread, 1)[0] * step.max())
  family.report(
    f"{what}: open files",
    f"{grown:.0f} more at the end" if grown > 5 else "",
    least=int(spread.min()),
    most=int(spread.max()),
    grown_over_the_run=round(grown, 2),
  )


def _look(pid: int, workdir: pathlib.Path) -> tuple[int, int, int] | None:
  """Last logged step, bytes, open files; None if it logs nothing yet.

  Bytes are those that the process has written to, in memory or swapped: what it has
  only read, such as libraries, the system takes away as it likes.
  """
  log = workdir / "metrics.jsonl"
  try:
    lines = log.read_text().count("\n")
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    held = sum(map(int, re.findall(r"^(?:RssAnon|VmSwap):\s+(\d+) kB", status, re.M)))
    files = len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))
  except OSError:
    return None
  if not lines:
    return None
  return lines * int(_TINY["log.every_steps"]), held * 1024, files
