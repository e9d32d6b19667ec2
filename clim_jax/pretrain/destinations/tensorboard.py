"""Event files as TensorBoard reads them, without TensorFlow."""

import io
import socket
import time
from collections.abc import Mapping

import numpy as np
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from clim_jax.pretrain.destinations.destination import Session


class EventFile:
  """One session of a run, in a file of its own."""

  run_id = ""  # the folder is the run

  def __init__(self, session: Session) -> None:
    """Has TensorBoard forget what earlier files hold beyond the checkpoint.

    It reads the files of a folder in the order of their names, and takes the first
    such mark in a file for the beginning of a session.
    """
    name = f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}"
    self._records = RecordWriter((session.workdir / name).open("wb"))
    self._add(file_version="brain.Event:2")
    start = SessionLog(status=SessionLog.START)
    self._add(step=session.first_step + 1, session_log=start)

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    values = [Summary.Value(tag=k, simple_value=v) for k, v in scalars.items()]
    self._add(step=step, summary=Summary(value=values))

  def show(self, step: int, name: str, picture: np.ndarray) -> None:
    height, width, channels = picture.shape
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    image = Summary.Image(
      height=height,
      width=width,
      colorspace=channels,
      encoded_image_string=file.getvalue(),
    )
    self._add(step=step, summary=Summary(value=[Summary.Value(tag=name, image=image)]))

  def close(self, *, finished: bool) -> None:
    self._records.close()

  def _add(self, **fields: object) -> None:
    event = Event(wall_time=time.time(), **fields)
    self._records.write(event.SerializeToString())
    self._records.flush()
