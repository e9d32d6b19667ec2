"""What a run writes about itself: metrics.jsonl and TensorBoard events."""

import json
import math

from clu import metric_writers
from etils import epath
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.event_file_writer import EventFileWriter

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
      _start_events(workdir, resume_step + 1)
      self._tensorboard = metric_writers.SummaryWriter(str(workdir))

  def write(self, step: int, scalars: Scalars) -> None:
    line: Record = {"step": step} | {
      name: value if math.isfinite(value) else None for name, value in scalars.items()
    }
    self._file.write(json.dumps(line) + "\n")
    self._file.flush()
    if self._tensorboard is not None:
      self._tensorboard.write_scalars(step, scalars)

  def keep(self, selection: selection_record.Record) -> None:
    """The newest selection, in the place of the one before."""
    selection_record.save(selection, self._workdir / selection_record.FILE)

  def close(self) -> None:
    self._file.close()
    if self._tensorboard is not None:
      self._tensorboard.close()


def _start_events(workdir: epath.Path, step: int) -> None:
  """Has TensorBoard forget the events of `step` and later in all earlier files.

  It takes the first such mark in a folder for the beginning: each session makes one.
  """
  writer = EventFileWriter(str(workdir))
  start = SessionLog(status=SessionLog.START)
  writer.add_event(Event(step=step, session_log=start))
  writer.close()
