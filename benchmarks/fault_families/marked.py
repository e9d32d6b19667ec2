"""The command line, noting what it is doing, so that a fault's moment is known.

python -m benchmarks.fault_families.marked MARKS ARGUMENTS…

MARKS gets a line whenever the run begins with something else: step, refresh,
checkpoint, evaluation, between (of two such), ended.
"""

import functools
import os
import sys
from typing import Any

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


def main() -> None:
  marks = Marks(sys.argv.pop(1))
  marks.around(Loop, "_train", "step")
  marks.around(Loop, "_select", "refresh")
  marks.around(Checkpoints, "save", "checkpoint")
  marks.around(launch, "judge", "evaluation")
  command_line.main()
  marks.note("ended")


if __name__ == "__main__":
  main()
