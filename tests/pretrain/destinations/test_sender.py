"""A run goes on as the same one where it is shown, and whatever happens there."""

import json
import sys
import threading

import numpy as np
import pytest
from etils import epath
from small_run import logged, run, small

from clim_jax.experiment import configuration
from clim_jax.experiment.configuration import ConfigError
from clim_jax.experiment.limits import DESTINATIONS
from clim_jax.pretrain.destinations import sender as sender_module
from clim_jax.pretrain.destinations.sender import FILE, KINDS, check_installed
from clim_jax.pretrain.logs import MetricLog


class StandIn:
  """Remembers what it was told; fails at the step `fails_at`."""

  opened = ()

  def __init__(self, session, fails_at=None):
    self.session, self._fails_at = session, fails_at
    self.run_id = session.run_id or f"number {len(StandIn.opened)}"
    self.steps, self.shown, self.finished = [], [], None
    StandIn.opened += (self,)

  def write(self, step, scalars):
    if step == self._fails_at:
      raise ConnectionError("no route to host\nand more")
    self.steps.append(step)

  def show(self, step, name, picture):
    self.shown.append((step, name, picture.shape))

  def close(self, *, finished):
    self.finished = finished


@pytest.fixture
def opened(monkeypatch):
  """The stand-ins of all sessions, in the place of Weights & Biases."""
  monkeypatch.setattr(StandIn, "opened", ())
  monkeypatch.setitem(KINDS, "wandb", StandIn)
  return lambda: StandIn.opened


def session(workdir, *, after, last, told=None):
  config = configuration.load("smoke")
  config.log.destinations = ("wandb",)
  workdir, tell = epath.Path(workdir), (told if told is not None else []).append
  with MetricLog(workdir, resume_step=after) as log:
    log.send_to(
      sender_module.open_senders(
        config, workdir, first_step=after, last_step=log.last_step, tell=tell
      )
    )
    for step in range(after + 1, last + 1):
      log.write(step, {"loss": 1.0})
    log.show(last, "gallery", np.zeros((2, 4, 3), np.uint8))


def test_every_name_that_a_config_may_hold_has_a_destination():
  assert set(DESTINATIONS) == set(KINDS)


def test_a_resumed_run_is_the_same_there_and_no_step_is_sent_twice(tmp_path, opened):
  session(tmp_path, after=0, last=5)
  session(tmp_path, after=3, last=7)
  first, second = opened()
  assert second.session.run_id == first.run_id
  assert (first.steps, second.steps) == ([1, 2, 3, 4, 5], [6, 7])
  assert (first.shown, first.finished) == ([(5, "gallery", (2, 4, 3))], True)
  assert first.session.config["moco.temperature"] == 0.1


def test_a_run_that_begins_anew_is_another_one_there(tmp_path, opened):
  session(tmp_path, after=0, last=2)
  session(tmp_path, after=0, last=2)
  first, second = opened()
  assert first.run_id != second.run_id
  assert second.steps == [1, 2]
  assert json.loads((tmp_path / FILE).read_text()) == {"wandb": second.run_id}


def test_an_id_that_cannot_be_read_makes_another_run(tmp_path, opened):
  session(tmp_path, after=0, last=2)
  (tmp_path / FILE).write_text("{")
  session(tmp_path, after=2, last=3)
  assert [one.steps for one in opened()] == [[1, 2], [3]]


def test_a_run_that_ends_by_an_error_is_not_called_finished(tmp_path, opened):
  config = configuration.load("smoke")
  config.log.destinations = ("wandb",)
  log = MetricLog(epath.Path(tmp_path), resume_step=0)
  log.send_to(
    sender_module.open_senders(
      config, epath.Path(tmp_path), first_step=0, last_step=0, tell=print
    )
  )
  with pytest.raises(FloatingPointError), log:
    raise FloatingPointError
  assert opened()[0].finished is False


def test_a_destination_that_cannot_be_reached_is_told(tmp_path, opened, monkeypatch):
  def refuse(session):
    raise PermissionError("no account")

  monkeypatch.setitem(KINDS, "wandb", refuse)
  told = []
  session(tmp_path, after=0, last=3, told=told)
  assert [text.split(";")[0] for text in told] == [
    "wandb gets nothing more in this session (PermissionError: no account)"
  ]
  assert [record["step"] for record in logged(tmp_path)] == [1, 2, 3]


def test_training_does_not_wait_for_a_destination(tmp_path, opened, monkeypatch):
  may_go_on = threading.Event()
  monkeypatch.setattr(StandIn, "write", lambda *_: may_go_on.wait(30))
  config = configuration.load("smoke")
  config.log.destinations = ("wandb",)
  with MetricLog(epath.Path(tmp_path), resume_step=0) as log:
    log.send_to(
      sender_module.open_senders(
        config, epath.Path(tmp_path), first_step=0, last_step=0, tell=print
      )
    )
    log.write(1, {"loss": 1.0})
    assert [record["step"] for record in logged(tmp_path)] == [1]
    may_go_on.set()


def test_a_run_is_whole_though_its_destination_fails(
  arrays, plain_run, tmp_path, monkeypatch, capsys
):
  monkeypatch.setitem(KINDS, "tensorboard", lambda s: StandIn(s, fails_at=2))
  config = small("base", arrays, selection__rule="none")
  config.log.destinations = ("tensorboard",)
  records = run(config, tmp_path)
  losses = [record["loss"] for record in records]
  assert losses == [record["loss"] for record in logged(plain_run)]
  assert StandIn.opened[-1].steps == [1]
  said = capsys.readouterr().out
  assert said.count("gets nothing more in this session (ConnectionError: no route") == 1


def test_a_library_that_is_missing_is_named_before_a_run_begins(
  arrays, tmp_path, monkeypatch
):
  monkeypatch.setitem(sys.modules, "trackio", None)
  config = small("base", arrays)
  config.log.destinations = ("tensorboard", "trackio")
  with pytest.raises(ConfigError, match=r"'trackio' needs .*: pip install trackio, or"):
    run(config, tmp_path)
  assert not (tmp_path / "metrics.jsonl").exists()
  check_installed(("tensorboard",))
