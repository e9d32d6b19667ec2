"""Sessions that note what they are doing, so that a fault's moment is known.

A file gets a line whenever the run begins with something else: step, refresh,
checkpoint, evaluation, between (of two such), ended.
"""

import functools
import multiprocessing
import os
import pathlib
import sys
from typing import Any

from benchmarks.fault_families import session
from clim_jax import command_line, launch
from clim_jax.experiment.checkpoints import Checkpoints
from clim_jax.pretrain.loop import Loop

KINDS = ("step", "refresh", "checkpoint", "evaluation")


class Marks:
  """Appends what is done; a line is there at once, whatever ends the process."""

  def __init__(self, path: str) -> None:
    self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    self._now = "between"

  def note(self, kind: str) -> None:
    self._now = kind
    os.write(self._file, f"{kind}\n".encode())

  def around(self, owner: Any, name: str, kind: str) -> None:
    """Notes each call of a function."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def called(*arguments: Any, **keywords: Any) -> Any:
      before = self._now
      self.note(kind)
      try:
        return original(*arguments, **keywords)
      finally:
        self.note(before)

    setattr(owner, name, called)


def start(
  workdir: pathlib.Path, marks: pathlib.Path
) -> multiprocessing.process.BaseProcess:
  """A session of the small run; what it says is in WORKDIR.log.

  It is forked from a process that has imported everything and begun nothing: that
  takes seconds each time.
  """
  context = multiprocessing.get_context("forkserver")
  context.set_forkserver_preload([__name__])
  process = context.Process(target=_session, args=(workdir, marks), daemon=True)
  process.start()
  return process


def _session(workdir: pathlib.Path, path: pathlib.Path) -> None:
  with session.log_of(workdir).open("a") as log:
    for stream in (1, 2):
      os.dup2(log.fileno(), stream)
  os.environ["XLA_FLAGS"] = session.xla_flags(1)
  sys.argv = ["main.py", *session.arguments(workdir)]
  marks = Marks(str(path))
  marks.around(Loop, "_train", "step")
  marks.around(Loop, "_select", "refresh")
  marks.around(Checkpoints, "save", "checkpoint")
  marks.around(launch, "judge", "evaluation")
  command_line.main()
  marks.note("ended")
