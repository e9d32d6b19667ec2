"""The log of a run that died has each step once, whatever was half written."""

import io
import json
import time

import numpy as np
import pytest
from etils import epath
from PIL import Image
from tensorboard.backend.event_processing.plugin_event_accumulator import (
  EventAccumulator,
)
from tensorboard.util.tensor_util import make_ndarray

from clim_jax.experiment import configuration
from clim_jax.pretrain.destinations.sender import open_senders
from clim_jax.pretrain.logs import MetricLog, read_records
from clim_jax.pretrain.pretrain import _losses


def session(workdir, first, last, *, resume_step, tensorboard=False):
  workdir, config = epath.Path(workdir), configuration.load("smoke")
  config.log.destinations = ("tensorboard",) if tensorboard else ()
  with MetricLog(workdir, resume_step=resume_step) as log:
    log.send_to(
      open_senders(
        config, workdir, first_step=resume_step, last_step=log.last_step, tell=print
      )
    )
    for step in range(first, last + 1):
      log.write(step, {"loss": first + step / 100})
    log.show(last, "gallery", np.full((2, 3, 3), first, np.uint8))
  return log


def logged_steps(workdir):
  return [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").open()]


@pytest.mark.parametrize(
  "rest",
  [b'{"step": 4, "lo', b"\x00\x00\x00", b'{"step": null}\n', b"[4]\n", b"\xff\xfe\n"],
)
def test_a_line_that_cannot_be_read_is_dropped_and_counted(rest, tmp_path):
  session(tmp_path, 1, 3, resume_step=0)
  with (tmp_path / "metrics.jsonl").open("ab") as file:
    file.write(rest)
  assert read_records(epath.Path(tmp_path / "metrics.jsonl")).unreadable == 1
  log = session(tmp_path, 4, 5, resume_step=3)
  assert log.unreadable == 1
  assert logged_steps(tmp_path) == [1, 2, 3, 4, 5]


def test_steps_beyond_the_checkpoint_do_not_double(tmp_path):
  session(tmp_path, 1, 5, resume_step=0, tensorboard=True)
  time.sleep(1.1)  # TensorBoard reads files in the order of the seconds in their names
  session(tmp_path, 4, 6, resume_step=3, tensorboard=True)
  assert logged_steps(tmp_path) == [1, 2, 3, 4, 5, 6]
  events = EventAccumulator(str(tmp_path)).Reload()
  shown = [
    (event.step, round(float(make_ndarray(event.tensor_proto)), 2))
    for event in events.Tensors("loss")
  ]
  assert shown == [(1, 1.01), (2, 1.02), (3, 1.03), (4, 4.04), (5, 4.05), (6, 4.06)]
  pictures = [make_ndarray(event.tensor_proto) for event in events.Tensors("gallery")]
  # Width, height and a file each; that of step 5 was beyond the checkpoint.
  assert [(int(width), int(height)) for width, height, _ in pictures] == [(3, 2)]
  pixels = np.asarray(Image.open(io.BytesIO(pictures[0][2])))
  np.testing.assert_array_equal(pixels, np.full((2, 3, 3), 4))


@pytest.mark.parametrize(
  ("kept", "first_step", "told"), [(3, 6, True), (3, 5, False), (0, 3, True)]
)
def test_records_that_are_gone_are_missed(kept, first_step, told, tmp_path):
  session(tmp_path, 1, kept, resume_step=0)
  log = session(tmp_path, 1, 0, resume_step=first_step)
  assert ("are lost" in "".join(_losses(log, first_step, every=3))) == told
