"""SIGKILL and SIGTERM at random moments: what is there in the end, and what was lost.

A run is hit several times and then goes to its end. It must be the run that nothing
happened to: the same arrays, lines and events.
"""

import contextlib
import itertools
import multiprocessing
import os
import pathlib
import random
import signal
import time
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.fault_families import marked, session
from benchmarks.fault_families.family import Family
from benchmarks.fault_families.marked import KINDS

# What the hits of one run are to fall into. After an evaluation nothing is to be saved:
# there SIGTERM merely ends the process.
_TURNS = (
  ("step", "refresh", "checkpoint", "step", "evaluation"),
  ("checkpoint", "refresh", "step", "checkpoint", "evaluation"),
)
_PATIENCE = 600  # seconds; beyond it a session hangs
_LEAVING = 20.0  # seconds from SIGTERM to the end
# Seconds after the beginning of a thing in which it may be hit.
_SPANS = {"step": 0.1, "refresh": 0.1, "checkpoint": 0.05, "evaluation": 0.5}


class Hit(NamedTuple):
  """A signal that reached a session."""

  during: str  # one of KINDS, or between
  step: int  # last logged
  seconds: float  # until the process was gone
  code: int


def kills(family: Family) -> None:
  _campaign(family, signal.SIGKILL, KINDS, hits=family.sized(25, 2))


def sigterm(family: Family) -> None:
  _campaign(family, signal.SIGTERM, KINDS[:-1], hits=family.sized(10, 1))


def _campaign(
  family: Family, number: signal.Signals, of_kinds: Sequence[str], *, hits: int
) -> None:
  """Reports a trial for each hit, and one for each run at its end."""
  whole = family.scratch / "whole"
  if _finish(whole) != 0:
    raise RuntimeError(
      f"the run to compare with failed:\n{session.said(whole)[-2000:]}"
    )
  rng = random.Random(0)
  during = set()
  for turn, kinds in enumerate(itertools.cycle(_TURNS)):
    workdir = family.scratch / f"run_{turn}"
    wanted = [kind for kind in kinds if kind in of_kinds]
    for kind in wanted[-hits:]:
      hit = _hit(workdir, kind, number, rng)
      if hit is None:  # it came to its end before
        break
      hits -= 1
      during.add(hit.during)
      _report_hit(family, workdir, hit, number)
    _report_end(family, workdir, whole)
    if not hits:
      break
  missed = set(of_kinds) - during
  if family.quick:
    return
  family.report(
    "every kind of moment was hit", f"not {', '.join(sorted(missed))}" if missed else ""
  )


def _report_hit(
  family: Family, workdir: pathlib.Path, hit: Hit, number: signal.Signals
) -> None:
  figures = hit._asdict() | {"saved": session.newest_step(workdir)}
  lost = ""
  if number == signal.SIGTERM and hit.step < session.STEPS:
    if hit.code != 143:
      lost = f"exit code {hit.code} and not 143"
    elif hit.seconds > _LEAVING:
      lost = f"left after {hit.seconds:.1f} s"
    elif figures["saved"] < hit.step:
      lost = f"saved after step {figures['saved']} and not {hit.step}"
  if "Traceback" in session.said(workdir):
    lost = lost or "a traceback"
  family.report(f"{workdir.name}: {number.name} in {hit.during}", lost, **figures)


def _report_end(family: Family, workdir: pathlib.Path, whole: pathlib.Path) -> None:
  code = _finish(workdir)
  lost = f"exit code {code}" if code != 0 else session.differences(workdir, whole)
  family.report(f"{workdir.name}: goes on to its end", lost)


def _finish(workdir: pathlib.Path) -> int | None:
  """Exit code of a session that is let be; None: it hangs."""
  child = marked.start(workdir, pathlib.Path(os.devnull))
  child.join(_PATIENCE)
  code = child.exitcode
  child.kill()
  return code


def _hit(
  workdir: pathlib.Path, kind: str, number: signal.Signals, rng: random.Random
) -> Hit | None:
  """Starts a session and signals it while it does `kind`; None if it ended before."""
  marks = workdir.with_name(f"{workdir.name}.marks")
  marks.write_text("")
  began = time.time()
  child = marked.start(workdir, marks)
  try:
    number_of = 1 if kind == "evaluation" else rng.randint(1, 3)
    if not _await(child, marks, kind, number_of):
      return None
    time.sleep(rng.uniform(0, _SPANS[kind]))
    during = _doing(workdir, marks, began)
    with contextlib.suppress(ProcessLookupError):  # it came to its end meanwhile
      os.kill(child.pid, number)
    sent = time.monotonic()
    child.join(_PATIENCE)
    taken, code = time.monotonic() - sent, child.exitcode
  finally:
    child.kill()
    child.join()
  if code == 0:
    return None
  log = workdir / "metrics.jsonl"
  lines = log.read_text().splitlines(keepends=True) if log.exists() else []
  return Hit(during, sum(line.endswith("\n") for line in lines), round(taken, 2), code)


def _await(
  child: multiprocessing.process.BaseProcess,
  marks: pathlib.Path,
  kind: str,
  number_of: int,
) -> bool:
  """Waits until a kind has begun so many times; False if the process ends before.

  Where there will be no such, it takes the last thing that the run does.
  """
  until = time.monotonic() + _PATIENCE
  while child.is_alive():
    done = marks.read_text().split()
    if done.count(kind) >= number_of or done[-1:] == ["ended"]:
      return True
    if time.monotonic() > until:
      raise TimeoutError(f"no {kind} within {_PATIENCE} s")
    time.sleep(0.002)
  return False


def _doing(workdir: pathlib.Path, marks: pathlib.Path, began: float) -> str:
  """What the session does; a save goes on beside the steps until it has its name."""
  now = (marks.read_text().split() or ["between"])[-1]
  if now == "refresh":
    return now
  for unnamed in (workdir / "checkpoints").glob("*tmp*"):
    with contextlib.suppress(FileNotFoundError):  # it has its name by now
      if unnamed.stat().st_mtime > began:  # not what an earlier hit has left
        return "checkpoint"
  return now
