"""What lies in a run's folder is damaged, each file in each way; then the run goes on.

It may refuse in one sentence, or begin with the very state that was saved, at a step
that it says. Where something is gone that nothing brings back, it must speak. That a
run that begins so ends as it would have, the kills show: here it ends as it begins.
"""

import contextlib
import io
import pathlib
import shutil
from collections.abc import Iterator
from unittest import mock

import jax
import numpy as np
from etils import epath

from benchmarks.fault_families import session
from benchmarks.fault_families.family import Family
from benchmarks.fault_families.harm import HARMS, Harm
from clim_jax import launch
from clim_jax.command_line.parse import parse
from clim_jax.experiment.checkpoints import Checkpoint, Checkpoints
from clim_jax.experiment.error import ConfigError
from clim_jax.experiment.experiment import open_experiment
from clim_jax.pretrain.loop import Loop

_OPTIONS = {"epochs": 3, "checkpoint__keep": 10}
_LAST = 33  # its checkpoint and those after _STOPPED are not there
_STOPPED = 22


def damage(family: Family) -> None:
  """Reports a trial for each kind of damage."""
  whole = family.scratch / "whole"
  if session.start(whole, **_OPTIONS).wait():
    raise RuntimeError(session.said(whole)[-2000:])
  saved = _saved(whole)
  stopped = family.scratch / "stopped"  # as a crash leaves a run
  shutil.copytree(whole, stopped)
  shutil.rmtree(stopped / "checkpoints" / str(_LAST))
  workdir = family.scratch / "harmed"
  usual = _begin(shutil.copytree(stopped, workdir))
  if (usual.step, usual.differs(saved)) != (_STOPPED, False):
    raise RuntimeError(f"without damage it begins at {usual.step}: {usual.said}")
  for harm in HARMS[:: family.sized(1, 8)]:
    shutil.rmtree(workdir)
    shutil.copytree(stopped, workdir)
    harm.do(workdir)
    _judge(family, harm, workdir, usual.said, saved)


class _Begun:
  """How a session begins."""

  def __init__(self) -> None:
    self.said, self.step, self._start = "", -1, None

  def begin(self, start: Checkpoint, step: int) -> Checkpoint:
    self.step, self._start = step, jax.device_get(start)
    return start

  def differs(self, saved: dict[int, Checkpoint]) -> bool:
    """Whether this is not what was saved of its step; the first state was not."""
    if not self.step:
      return False
    found, expected = (
      jax.tree.leaves(each) for each in (self._start, saved[self.step])
    )
    return len(found) != len(expected) or not all(map(np.array_equal, found, expected))


def _judge(
  family: Family,
  harm: Harm,
  workdir: pathlib.Path,
  usual: str,
  saved: dict[int, Checkpoint],
) -> None:
  """Lets the run go on and reports how."""
  kept = _checkpoints(workdir)
  try:
    begun = _begin(workdir)
  except (ConfigError, OSError, FloatingPointError) as error:  # told as a sentence
    gone = kept - _checkpoints(workdir)
    lost = f"refused, and checkpoints {sorted(gone)} are gone" if gone else ""
    if harm.harmless:
      lost = "refused, and the run did not need it"
    family.report(harm.name, lost, refused=str(error)[:300])
    return
  except Exception as error:
    family.report(harm.name, f"{type(error).__name__}: {str(error)[:300]}")
    return
  told = sorted(set(begun.said.splitlines()) - set(usual.splitlines()))
  told = [line[:300] for line in told if line.startswith(("warning", "changed"))]
  lost = "" if told or harm.harmless else "goes on without a word"
  if begun.differs(saved):
    lost = f"the state is not that of step {begun.step}"
  steps = [record["step"] for record in session.records(workdir)]
  if steps != list(range(1, begun.step + 1)) and not harm.loses_lines:
    lost = lost or f"of {begun.step} lines {len(steps)} are left"
  family.report(harm.name, lost, begins_at=begun.step, said=told[:3])


def _begin(workdir: pathlib.Path) -> _Begun:
  """A session in this process, up to its first step."""
  command = parse(session.arguments(workdir, **_OPTIONS))
  begun = _Begun()
  with (
    _heard() as said,
    mock.patch.object(Loop, "run", lambda _, *start: begun.begin(*start)),
    mock.patch.object(launch, "judge"),
  ):
    launch.run(command.config, command.mode, epath.Path(workdir))
  begun.said = said.getvalue()
  return begun


@contextlib.contextmanager
def _heard() -> Iterator[io.StringIO]:
  out = io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
    yield out


def _saved(workdir: pathlib.Path) -> dict[int, Checkpoint]:
  """The checkpoints of a run by their steps."""
  like = open_experiment(parse(session.arguments(workdir, **_OPTIONS)).config)
  like = like.init_state()
  with Checkpoints(epath.Path(workdir / "checkpoints")) as checkpoints:
    return {
      step: jax.device_get(checkpoints.restore(step, like)) for step in (11, _STOPPED)
    }


def _checkpoints(workdir: pathlib.Path) -> set[str]:
  return {path.name for path in (workdir / "checkpoints").glob("*")}
