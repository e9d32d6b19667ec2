"""What a run writes about itself: metrics.jsonl, and the same to where it is shown."""

import json
import math
from collections.abc import Sequence

import numpy as np
from etils import epath

from clim_jax.pretrain.destinations.sender import Sender
from clim_jax.pretrain.records import Record, read_records
from clim_jax.selection import record as selection_record
from clim_jax.whole import written_whole

Scalars = dict[str, float | int]


class MetricLog:
  """One JSON object a logged step, and the same to destinations."""

  def __init__(self, workdir: epath.Path, *, resume_step: int) -> None:
    """Drops what an earlier session wrote beyond `resume_step` or left unreadable."""
    self._workdir = workdir
    path = workdir / "metrics.jsonl"
    found, self.unreadable = read_records(path)  # the latter: how many lines
    self.kept = [record for record in found if record["step"] <= resume_step]
    self.beyond = len(found) - len(self.kept)
    self.last_step = found[-1]["step"] if found else 0  # that was ever written
    with written_whole(path) as beside:
      beside.write_text("".join(json.dumps(record) + "\n" for record in self.kept))
    self._file = path.open("a")
    self._senders: Sequence[Sender] = ()

  def send_to(self, senders: Sequence[Sender]) -> None:
    """From here on; they are closed with the log."""
    self._senders = senders

  def write(self, step: int, scalars: Scalars) -> None:
    line: Record = {"step": step} | {
      name: value if math.isfinite(value) else None for name, value in scalars.items()
    }
    self._file.write(json.dumps(line) + "\n")
    self._file.flush()
    for sender in self._senders:
      sender.write(step, scalars)

  def keep(self, selection: selection_record.Record) -> None:
    """The newest selection, in the place of the one before."""
    selection_record.save(selection, self._workdir / selection_record.FILE)

  def show(self, step: int, name: str, picture: np.ndarray) -> None:
    """A picture, [H, W, 3] uint8, to destinations alone."""
    for sender in self._senders:
      sender.show(step, name, picture)

  def __enter__(self) -> "MetricLog":
    return self

  def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
    self._file.close()
    for sender in self._senders:
      sender.close(finished=error is None)
