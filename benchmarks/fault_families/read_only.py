"""A folder that can be read and not be written: at the start, in the midst, to look at.

As root a mount is laid over it that is read-only, for root heeds no rights; any other
user takes the right to write away from it.
"""

import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

from PIL import Image

from benchmarks.fault_families import session
from benchmarks.fault_families.family import ROOT, Family

_PATIENCE = 600  # seconds; beyond it a session hangs
_WHY = "disk is (full or )?read-only|no right"


def read_only(family: Family) -> None:
  """Reports a trial for each thing that meets such a folder, and for what follows."""
  whole = family.scratch / "whole"
  if session.start(whole, checkpoint__keep=10).wait(_PATIENCE):
    raise RuntimeError(session.said(whole)[-2000:])
  _at_the_start(family, whole)
  if family.quick:
    return
  _in_the_midst(family, whole)
  _new_run(family)
  for mode in ("evaluate", "report", "plan", "check"):
    _looked_at(family, whole, mode, writes_elsewhere=False)
  for command in (
    ("embed", f"--input={_images(family)}", "--output=OUT.npz"),
    ("export", "--format=torchvision", "--output=OUT.safetensors"),
  ):
    _looked_at(family, whole, *command, writes_elsewhere=True)


def _at_the_start(family: Family, whole: pathlib.Path) -> None:
  """The folder of a run that was stopped before its end."""
  workdir = shutil.copytree(whole, family.scratch / "stopped")
  shutil.rmtree(workdir / "checkpoints" / str(session.newest_step(workdir)))
  with _unwritable(workdir):
    code = _train(workdir)
    _report(family, "at the start", workdir, code, kept=_checkpoints(workdir))
  _goes_on(family, "at the start", workdir, whole)


def _in_the_midst(family: Family, whole: pathlib.Path) -> None:
  """From the first checkpoint on."""
  workdir = family.scratch / "midst"
  workdir.mkdir()
  child = session.start(workdir, checkpoint__keep=10)
  until = time.monotonic() + _PATIENCE
  while not session.newest_step(workdir) and child.poll() is None:
    if time.monotonic() > until:
      raise TimeoutError(f"no checkpoint in {_PATIENCE} s")
    time.sleep(0.01)
  with _unwritable(workdir):
    kept = _checkpoints(workdir)
    _report(family, "in the midst", workdir, child.wait(_PATIENCE), kept=kept)
  _goes_on(family, "in the midst", workdir, whole)


def _new_run(family: Family) -> None:
  folder = family.scratch / "runs"
  folder.mkdir()
  workdir = folder / "new"
  with _unwritable(folder):
    child = session.start(workdir, log=family.scratch / "new.log")
    log = (family.scratch / "new.log").read_text
    code = child.wait(_PATIENCE)
    family.report("a new run", _wrong(log(), code, str(workdir)), code=code)


def _looked_at(
  family: Family,
  whole: pathlib.Path,
  mode: str,
  *more: str,
  writes_elsewhere: bool,
) -> None:
  """A mode that reads a run; where it writes into another folder it must do so."""
  workdir = shutil.copytree(whole, family.scratch / f"seen_{mode}")
  out = family.scratch / f"out_{mode}"
  command = [sys.executable, "main.py", mode, f"--workdir={workdir}", "--quiet"]
  command += ["--config=smoke"] * (mode in ("plan", "check"))
  command += [flag.replace("OUT", str(out)) for flag in more]
  with _unwritable(workdir):
    done = subprocess.run(
      command,
      cwd=ROOT,
      env=os.environ | {"JAX_PLATFORMS": "cpu"},
      capture_output=True,
      text=True,
      timeout=_PATIENCE,
    )
  text, code = done.stdout + done.stderr, done.returncode
  if writes_elsewhere:
    lost = f"exit code {code}: {text[-300:]}" if code else ""
  else:
    lost = _wrong(text, code, str(workdir))
  family.report(f"{mode} of a run", lost, code=code, said=_errors(text))


def _images(family: Family) -> pathlib.Path:
  folder = family.scratch / "images"
  folder.mkdir()
  for level in range(4):
    Image.new("RGB", (12, 12), (60 * level,) * 3).save(folder / f"{level}.png")
  return folder


def _train(workdir: pathlib.Path) -> int:
  return session.start(workdir, checkpoint__keep=10).wait(_PATIENCE)


def _goes_on(
  family: Family, when: str, workdir: pathlib.Path, whole: pathlib.Path
) -> None:
  kept, code = session.newest_step(workdir), _train(workdir)
  lost = f"exit code {code}" if code else session.differences(workdir, whole)
  if f"resuming from step {kept}" not in session.said(workdir):
    lost = lost or f"it did not go on from step {kept}"
  family.report(f"{when}: goes on once it can be written", lost, from_step=kept)


def _report(
  family: Family, when: str, workdir: pathlib.Path, code: int, kept: list[int]
) -> None:
  """One sentence, and each checkpoint that was there can be read."""
  text = session.said(workdir)
  lost = _wrong(text, code, str(workdir))
  if missing := set(kept) - set(_checkpoints(workdir)):
    lost = lost or f"checkpoints are gone: {sorted(missing)}"
  for step in kept:
    session.arrays(workdir, step)
  family.report(when, lost, code=code, kept=kept, said=_errors(text))


def _checkpoints(workdir: pathlib.Path) -> list[int]:
  names = (path.name for path in (workdir / "checkpoints").iterdir())
  return sorted(int(name) for name in names if name.isdigit())


def _wrong(text: str, code: int, folder: str) -> str:
  """What is wrong with how it was told; one sentence of ours is right."""
  errors = _errors(text)
  if code != 1:
    return f"exit code {code}"
  if "Traceback" in text:
    return "a traceback"
  if len(errors) != 1:
    return f"{len(errors)} sentences"
  if folder not in errors[0] or not re.search(_WHY, errors[0]):
    return f"neither where nor why: {errors[0]}"
  return ""


def _errors(text: str) -> list[str]:
  return [line[:300] for line in text.splitlines() if line.startswith("error: ")]


@contextlib.contextmanager
def _unwritable(folder: pathlib.Path) -> Iterator[None]:
  if os.geteuid():
    inside = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    before = {path: path.stat().st_mode for path in inside}
    for path in inside:
      path.chmod(0o555)
    try:
      yield
    finally:
      for path, mode in before.items():
        path.chmod(mode)
    return
  subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
  try:
    subprocess.run(
      ["mount", "-o", "remount,bind,ro", str(folder), str(folder)], check=True
    )
    yield
  finally:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
