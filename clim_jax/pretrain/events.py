"""Event files as TensorBoard reads them, without TensorFlow."""

import socket
import time
from collections.abc import Mapping

from etils import epath
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


class EventFile:
  """The scalars of one session of a run."""

  def __init__(self, workdir: epath.Path, *, first_step: int) -> None:
    """Has TensorBoard forget `first_step` and later of all earlier files.

    It reads the files of a folder in the order of their names, and takes the first
    such mark in a file for the beginning of a session.
    """
    name = f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}"
    self._records = RecordWriter((workdir / name).open("wb"))
    self._add(file_version="brain.Event:2")
    start = SessionLog(status=SessionLog.START)
    self._add(step=first_step, session_log=start)

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    values = [Summary.Value(tag=k, simple_value=v) for k, v in scalars.items()]
    self._add(step=step, summary=Summary(value=values))

  def close(self) -> None:
    self._records.close()

  def _add(self, **fields: object) -> None:
    event = Event(wall_time=time.time(), **fields)
    self._records.write(event.SerializeToString())
    self._records.flush()
