"""One run in one folder, and a line for each of its sessions."""

import json
import os
import signal
import subprocess
import sys

import pytest
from etils import epath
from small_run import ROOT

from clim_jax.experiment.checkpoints import Best
from clim_jax.experiment.configuration import Change
from clim_jax.experiment.error import ConfigError
from clim_jax.experiment.workdir import append_session, only_run

HOLD = """
import sys, time
from etils import epath
from clim_jax.experiment.workdir import only_run
with only_run(epath.Path(sys.argv[1])):
  print("held", flush=True)
  time.sleep(200)
"""


def test_a_second_run_is_refused_until_the_first_has_ended_or_crashed(tmp_path):
  child = subprocess.Popen(
    [sys.executable, "-c", HOLD, str(tmp_path)],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    text=True,
  )
  try:
    assert child.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match="another process trains in"):
      only_run(epath.Path(tmp_path)).__enter__()
  finally:
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
  for _ in range(2):
    with only_run(epath.Path(tmp_path)):
      pass


def test_history_has_a_line_a_session_with_what_changed(tmp_path):
  append_session(epath.Path(tmp_path), 0, [])
  append_session(epath.Path(tmp_path), 40, [Change("epochs", 2, 3)], Best(20, 0.5))
  first, second = map(json.loads, (tmp_path / "history.jsonl").open())
  assert (first["step"], first["changed"]) == (0, {})
  assert (second["step"], second["changed"]) == (40, {"epochs": [2, 3]})
  assert (first["best"], second["best"]) == (None, {"step": 20, "value": 0.5})


def test_a_history_that_is_no_text_is_kept_and_added_to(tmp_path):
  (tmp_path / "history.jsonl").write_bytes(b"\xff\n")
  append_session(epath.Path(tmp_path), 7, [])
  first, second = (tmp_path / "history.jsonl").read_bytes().splitlines()
  assert first == b"\xff"
  assert json.loads(second)["step"] == 7
