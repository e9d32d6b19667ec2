"""What a run writes about itself: metrics.jsonl and TensorBoard events."""

import json
import math
from typing import NamedTuple

from clu import metric_writers
from etils import epath
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from clim_jax.whole import written_whole

Scalars = dict[str, float | int]
Record = dict[str, float | int | None]  # as written: what is not finite is None


class Records(NamedTuple):
  """What a metrics.jsonl holds."""

  readable: list[Record]
  unreadable: int  # lines, such as the last one of a process that was killed


def read_records(path: epath.Path) -> Records:
  """The records of a file in their order; none if there is no such file."""
  text = path.read_bytes().decode(errors="replace") if path.exists() else ""
  lines = [line for line in text.splitlines() if line.strip()]
  parsed = [_parse(line) for line in lines]
  readable = [record for record in parsed if record is not None]
  return Records(readable, len(lines) - len(readable))


def _parse(line: str) -> Record | None:
  try:
    record = json.loads(line)
  except ValueError:
    return None
  is_record = isinstance(record, dict) and isinstance(record.get("step"), int)
  return record if is_record else None


class MetricLog:
  """One JSON object a logged step, and the same to TensorBoard."""

  def __init__(
    self, workdir: epath.Path, *, resume_step: int, tensorboard: bool
  ) -> None:
    """Drops what an earlier session wrote beyond `resume_step` or left unreadable."""
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
    record: Record = {"step": step} | {
      name: value if math.isfinite(value) else None for name, value in scalars.items()
    }
    self._file.write(json.dumps(record) + "\n")
    self._file.flush()
    if self._tensorboard is not None:
      self._tensorboard.write_scalars(step, scalars)

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
