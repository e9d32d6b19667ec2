"""Two processes of two devices: the run of one with four, and what a dead one does."""

import pathlib
import signal
import socket
import subprocess
import time

import numpy as np
from PIL import Image

from benchmarks.fault_families import session
from benchmarks.fault_families.family import Family

_PATIENCE = 1200  # seconds; beyond it a session hangs
_LEAVING = 120.0  # seconds that a process may outlive another
_TOLERANCE = 1e-4  # of a loss: sums over devices are taken in another order
_SHORT = {"epochs": 3}


def hosts(family: Family) -> None:
  """Reports losses and positives of 2 × 2 against those of 1 × 4."""
  alone, together = family.scratch / "1x4", family.scratch / "2x2"
  if session.start(alone, devices=4, **_SHORT).wait(_PATIENCE):
    raise RuntimeError(session.said(alone)[-2000:])
  children = _start_both(together)
  codes = [child.wait(_PATIENCE) for child in children]
  if any(codes):
    family.report("2 processes × 2 devices", f"exit codes {codes}")
    return
  here, there = session.records(together), session.records(alone)
  far = max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(here, there, strict=True))
  family.report(
    "losses of 2 × 2 and of 1 × 4",
    f"they differ by {far:.2g}" if far > _TOLERANCE else "",
    steps=len(here),
    largest_relative_difference=far,
    of_the_first_step=abs(here[0]["loss"] / there[0]["loss"] - 1),
  )
  names = [name for name in there[-1] if name.startswith("selection/")]
  names = [name for name in names if not name.endswith(("seconds", "share_of_epoch"))]
  differ = [
    name for name in names if not np.isclose(here[-1][name], there[-1][name], rtol=1e-3)
  ]
  family.report(
    "the last selection of 2 × 2 and of 1 × 4",
    f"other {', '.join(differ)}" if differ else "",
    mean_positives=[r[-1]["selection/mean_positives"] for r in (here, there)],
  )


def host_lost(family: Family) -> None:
  """Kills one of two, or lets it meet a bad image; then both go on to the end."""
  whole = family.scratch / "whole"
  codes = [child.wait(_PATIENCE) for child in _start_both(whole)]
  if any(codes):
    raise RuntimeError(f"exit codes {codes}: {session.said(whole)[-2000:]}")
  for victim in family.sized((0, 1, 0, 1), (1,)):
    workdir = family.scratch / f"lost_{victim}_{time.monotonic_ns()}"
    _lose(family, workdir, victim, whole)
  if family.quick:
    return
  _other_configs(family)
  _bad_image(family)


def _lose(
  family: Family, workdir: pathlib.Path, victim: int, whole: pathlib.Path
) -> None:
  children = _start_both(workdir)
  try:
    _await_line(workdir, children)
    children[victim].send_signal(signal.SIGKILL)
    lost, figures = _leaves(children[1 - victim], workdir, time.monotonic())
  finally:
    for child in children:
      session.end(child)
  family.report(f"process {victim} of 2 killed: the other leaves", lost, **figures)
  codes = [child.wait(_PATIENCE) for child in _start_both(workdir)]
  lost = f"exit codes {codes}" if any(codes) else session.differences(workdir, whole)
  family.report(f"process {victim} of 2 killed: both go on to the end", lost)


def _other_configs(family: Family) -> None:
  """One process was started with another config than the other."""
  workdir = family.scratch / "other_config"
  children = _start_both(workdir, of_second=["--config.moco.temperature=0.3"])
  _report_both(family, "processes of other configs", workdir, children, "temperature")


def _bad_image(family: Family) -> None:
  """A file that cannot be decoded; one process meets it, or both."""
  folder = family.scratch / "images"
  folder.mkdir()
  rng = np.random.default_rng(0)
  for number in range(300):
    pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f"{number:03}.png")
  (folder / "123.png").write_bytes(b"\x89PNG no image")
  workdir = family.scratch / "bad_image"
  data = [f"--config.data.path={folder}", "--config.data.source=folder"]
  children = _start_both(workdir, *data)
  _report_both(family, "a bad image", workdir, children, "123.png")


def _report_both(
  family: Family,
  trial: str,
  workdir: pathlib.Path,
  children: list[subprocess.Popen],
  word: str,
) -> None:
  """Both must leave, one soon after the other, and say a word."""
  started = time.monotonic()
  try:
    while all(child.poll() is None for child in children):
      if time.monotonic() - started > _PATIENCE:
        family.report(trial, f"both still run after {_PATIENCE} s")
        return
      time.sleep(0.1)
    (other,) = [c for c in children if c.poll() is None] or children[-1:]
    lost, figures = _leaves(other, workdir, time.monotonic())
  finally:
    for child in children:
      session.end(child)
  codes = [child.returncode for child in children]
  if not lost and 0 in codes:
    lost = f"exit codes {codes}"
  if not lost and word not in session.said(workdir):
    lost = f"{word} is not said"
  family.report(trial, lost, codes=codes, **figures)


def _leaves(
  child: subprocess.Popen, workdir: pathlib.Path, since: float
) -> tuple[str, dict[str, float | int | str]]:
  """What is wrong with how a process leaves, and figures of it."""
  try:
    code = child.wait(_LEAVING)
  except subprocess.TimeoutExpired:
    return f"still runs after {_LEAVING} s", {}
  text = session.said(workdir)
  errors = [line for line in text.splitlines() if line.startswith("error: ")]
  figures = {
    "left_with": code,
    "after_seconds": round(time.monotonic() - since, 1),
    "said": errors[-1][:300] if errors else "",
  }
  if code == 0:
    return "it left with 0", figures
  if "Traceback" in text:
    return "a traceback", figures
  return "" if errors else "no sentence", figures


def _await_line(workdir: pathlib.Path, children: list[subprocess.Popen]) -> None:
  """Until more than an epoch is logged, a selection among it."""
  until = time.monotonic() + _PATIENCE
  log = workdir / "metrics.jsonl"
  while not log.exists() or log.read_text().count("\n") < 14:
    if any(child.poll() is not None for child in children):
      raise RuntimeError(f"ended too soon: {session.said(workdir)[-2000:]}")
    if time.monotonic() > until:
      raise TimeoutError(f"nothing logged in {_PATIENCE} s")
    time.sleep(0.01)


def _start_both(
  workdir: pathlib.Path, *more: str, of_second: tuple[str, ...] | list[str] = ()
) -> list[subprocess.Popen]:
  port = _free_port()
  return [
    session.start(
      workdir,
      *more,
      "--distributed",
      f"--coordinator=localhost:{port}",
      "--num_processes=2",
      f"--process_id={process}",
      *(of_second if process else ()),
      devices=2,
      **_SHORT,
    )
    for process in range(2)
  ]


def _free_port() -> int:
  with socket.socket() as held:
    held.bind(("", 0))
    return held.getsockname()[1]
