"""A signal ends a run that is saved and goes on as if nothing had been."""

import copy
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from small_run import ROOT, assert_same_checkpoint, logged, run

from clim_jax.evaluate.features import FeatureExtractor
from clim_jax.pretrain.counted_step import CountedStep
from clim_jax.pretrain.interruption import Interrupted, Interruption


@pytest.fixture(scope="module")
def config(center_wise):
  """Four epochs of two steps with two selections; saves at the end alone."""
  config = copy.deepcopy(center_wise[0])
  config.checkpoint.every_epochs = 100
  return config


@pytest.fixture(scope="module")
def whole(center_wise):
  return center_wise[1]


def signal_at_call(monkeypatch, owner, name, number, *, of_signal):
  """Sends a signal during one call of a method."""
  original, calls = getattr(owner, name), []

  def called(*arguments):
    calls.append(None)
    if len(calls) == number:
      os.kill(os.getpid(), of_signal)
    return original(*arguments)

  monkeypatch.setattr(owner, name, called)


@pytest.mark.parametrize(
  ("owner", "name", "call", "of_signal", "saved"),
  [
    (CountedStep, "__call__", 3, signal.SIGINT, 3),
    (FeatureExtractor, "bank", 1, signal.SIGTERM, 2),
  ],
  ids=["within an epoch", "in a selection"],
)
def test_a_run_that_was_signalled_goes_on_bit_for_bit(
  owner, name, call, of_signal, saved, config, whole, tmp_path, monkeypatch
):
  before = signal.getsignal(of_signal)
  with monkeypatch.context() as patch:
    signal_at_call(patch, owner, name, call, of_signal=of_signal)
    with pytest.raises(Interrupted, match=f"saved after step {saved} of 8") as raised:
      run(config, tmp_path)
  assert raised.value.exit_code == 128 + of_signal
  assert signal.getsignal(of_signal) == before
  assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [str(saved)]
  records = run(config, tmp_path)
  assert_same_checkpoint(config, whole, tmp_path)
  assert [r["loss"] for r in records] == [r["loss"] for r in logged(whole)]


def test_a_second_signal_leaves_at_once():
  program = (
    "import os, signal, time\n"
    f"from {Interruption.__module__} import Interruption\n"
    "with Interruption():\n"
    "  os.kill(os.getpid(), signal.SIGTERM)\n"
    "  print('goes on', flush=True)\n"
    "  os.kill(os.getpid(), signal.SIGTERM)\n"
    "  print('never', flush=True)\n"
  )
  done = subprocess.run(
    [sys.executable, "-c", program],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert (done.returncode, done.stdout) == (143, "goes on\n")
  assert "saved" in done.stderr


def test_sigterm_of_the_command_line_saves_and_leaves_with_143(tmp_path):
  command = [sys.executable, "main.py", "--config=digits", f"--workdir={tmp_path}"]
  command += ["--config.log.every_steps=1", "--config.views.sides=8"]
  command += ["--config.views.min_scales=0.2", "--config.views.max_scales=1.0"]
  command += ["--config.views.evaluation_side=8", "--config.model.width=2"]
  environment = os.environ | {"XLA_FLAGS": ""}
  child = subprocess.Popen(
    command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
  )
  try:
    log = tmp_path / "metrics.jsonl"
    deadline = time.monotonic() + 200
    while not (log.exists() and log.read_text()):
      assert child.poll() is None
      assert time.monotonic() < deadline
      time.sleep(0.05)
    child.terminate()
    _, said = child.communicate(timeout=60)  # 20 s are promised, of a quiet machine
  finally:
    child.kill()
    child.wait()
  assert child.returncode == 143
  (step,) = (path.name for path in (tmp_path / "checkpoints").iterdir())
  assert f"stopped: saved after step {step} of " in said
  assert "Traceback" not in said
  assert json.loads(log.read_text().splitlines()[-1])["step"] == int(step)
