"""What a run writes about itself: metrics.jsonl and TensorBoard events."""

import json
import math

from etils import epath

from clim_jax.pretrain.events import EventFile
from clim_jax.pretrain.records import Record, read_records
from clim_jax.selection import record as selection_record
from clim_jax.whole import written_whole

Scalars = dict[str, float | int]


class MetricLog:
  """One JSON object a logged step, and the same to TensorBoard."""

  def __init__(
    self, workdir: epath.Path, *, resume_step: int, tensorboard: bool
  ) -> None:
    """Drops what an earlier session wrote beyond `resume_step` or left unreadable."""
    self._workdir = workdir
    path = workdir / "metrics.jsonl"
    found, self.unreadable = read_records(path)  # the latter: how many lines
    self.kept = [record for record in found if record["step"] <= resume_step]
    self.beyond = len(found) - len(self.kept)
    with written_whole(path) as beside:
      beside.write_text("".join(json.dumps(record) + "\n" for record in self.kept))
    self._file = path.open("a")
    self._tensorboard = None
    if tensorboard:
      self._tensorboard = EventFile(workdir, first_step=resume_step + 1)

  def write(self, step: int, scalars: Scalars) -> None:
    line: Record = {"step": step} | {
      name: value if math.isfinite(value) else None for name, value in scalars.items()
    }
    self._file.write(json.dumps(line) + "\n")
    self._file.flush()
    if self._tensorboard is not None:
      self._tensorboard.write(step, scalars)

  def keep(self, selection: selection_record.Record) -> None:
    """The newest selection, in the place of the one before."""
    selection_record.save(selection, self._workdir / selection_record.FILE)

  def close(self) -> None:
    self._file.close()
    if self._tensorboard is not None:
      self._tensorboard.close()
