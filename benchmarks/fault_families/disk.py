"""A full disk: older checkpoints stay, and with room the run goes on.

As root a small tmpfs is mounted for it. Without root no file may grow beyond a limit,
which the operating system answers with another error than a full disk's.
"""

import contextlib
import os
import pathlib
import resource
import subprocess
from collections.abc import Iterator

from benchmarks.fault_families import session
from benchmarks.fault_families.family import Family

_PATIENCE = 600  # seconds; beyond it a session hangs
_KIB = 1024


def disk(family: Family) -> None:
  """Reports two trials for each size of disk: without room, and with room again."""
  whole = family.scratch / "whole"
  if session.start(whole, checkpoint__keep=10).wait(_PATIENCE):
    raise RuntimeError(session.said(whole)[-2000:])
  if os.geteuid():
    for size in family.sized((20, 60, 100, 140, 180), (60,)):
      _files_limited(family, whole, size * _KIB)
    return
  # The whole run takes some 2,000 KiB.
  for size in family.sized((4, 300, 500, 700, 900, 1100, 1300, 1500), (700,)):
    _full(family, whole, size)


def _full(family: Family, whole: pathlib.Path, size: int) -> None:
  with _mounted(family, f"size={size}k") as folder:
    workdir = folder / "run"
    code = _session(workdir)
    kept = session.newest_step(workdir)
    trial = f"tmpfs of {size} KiB"
    family.report(trial, _wrong(workdir, code), via="tmpfs", code=code, saved=kept)
    _mount(folder, "remount,size=100m")
    code = _session(workdir)
    lost = f"exit code {code}" if code else session.differences(workdir, whole)
    if f"resuming from step {kept}" not in _outside(workdir).read_text() and kept:
      lost = lost or f"it did not go on from step {kept}"
    family.report(f"{trial}: goes on with room", lost, via="tmpfs", saved=kept)


def _files_limited(family: Family, whole: pathlib.Path, limit: int) -> None:
  workdir = family.scratch / f"limit_{limit}"
  code = _session(workdir, limit)
  trial = f"no file beyond {limit // _KIB} KiB"
  kept = session.newest_step(workdir)
  family.report(trial, _wrong(workdir, code), via="RLIMIT_FSIZE", code=code, saved=kept)
  code = _session(workdir)
  lost = f"exit code {code}" if code else session.differences(workdir, whole)
  family.report(f"{trial}: goes on without", lost, via="RLIMIT_FSIZE", saved=kept)


def _session(workdir: pathlib.Path, limit: int | None = None) -> int:
  """Exit code of a session whose log lies outside, on a disk with room."""

  def limited() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

  return session.start(
    workdir,
    log=_outside(workdir),
    preexec=None if limit is None else limited,
    checkpoint__keep=10,
  ).wait(_PATIENCE)


def _outside(workdir: pathlib.Path) -> pathlib.Path:
  return workdir.parent.with_name(f"{workdir.parent.name}_{workdir.name}.log")


def _wrong(workdir: pathlib.Path, code: int) -> str:
  """What is wrong with how a session without room ended; each checkpoint is read."""
  text = _outside(workdir).read_text(errors="replace")
  for folder in (workdir / "checkpoints").glob("*"):
    if folder.name.isdigit():
      session.arrays(workdir, int(folder.name))
  if code not in (0, 1):
    return f"exit code {code}"
  if "Traceback" in text:
    return "a traceback"
  if code == 1 and "error: " not in text:
    return "no sentence"
  return ""


@contextlib.contextmanager
def _mounted(family: Family, options: str) -> Iterator[pathlib.Path]:
  folder = family.scratch / f"disk_{options.replace('=', '_')}"
  folder.mkdir()
  _mount(folder, options)
  try:
    yield folder
  finally:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(folder: pathlib.Path, options: str) -> None:
  command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
  subprocess.run(command, check=True)
