"""The libraries themselves, offline: `pip install ".[wandb,mlflow,trackio]"`."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[3]
# Each in a process of its own: they keep their settings from their import on.
_RUN = """
import sys
from etils import epath
import numpy as np
from clim_jax.experiment import configuration
from clim_jax.pretrain.destinations.sender import open_senders
from clim_jax.pretrain.logs import MetricLog

def fail(text):
  raise AssertionError(text)

config = configuration.load("smoke")
config.log.destinations = (sys.argv[1],)
workdir = epath.Path("runs/mine")
workdir.mkdir(parents=True)
for first, last in ((0, 5), (3, 7)):  # killed after step 5, saved after 3
  config.epochs += 1
  with MetricLog(workdir, resume_step=first) as log:
    log.send_to(
      open_senders(
        config, workdir, first_step=first, last_step=log.last_step, tell=fail
      )
    )
    for step in range(first + 1, last + 1):
      log.write(step, {"loss": 1 / step, "selection/precision": float("nan")})
    log.show(last, "selection", np.zeros((8, 16, 3), np.uint8))
"""
_READ_MLFLOW = """
import sys, mlflow
client = mlflow.MlflowClient()
run = client.get_run(sys.argv[1])
assert run.info.status == "FINISHED" and run.data.params["moco.temperature"] == "0.1"
assert run.info.run_name == "mine"
print([metric.step for metric in client.get_metric_history(sys.argv[1], "loss")])
"""
_READ_TRACKIO = """
import sys
from trackio.sqlite_storage import SQLiteStorage
assert SQLiteStorage.get_runs("clim_jax") == [sys.argv[1]]
logs = SQLiteStorage.get_logs("clim_jax", sys.argv[1])
print(sorted(log["step"] for log in logs if "loss" in log))
"""


@pytest.fixture
def python(tmp_path, monkeypatch):
  """Runs a program, in a folder where these libraries keep what they are sent."""
  monkeypatch.setenv("PYTHONPATH", str(ROOT))
  monkeypatch.setenv("WANDB_MODE", "offline")
  monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
  monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))

  def run(program, argument):
    return subprocess.run(
      [sys.executable, "-c", program, argument],
      cwd=tmp_path,
      check=True,
      capture_output=True,
      text=True,
    ).stdout

  return run


def sent(python, folder, name):
  """The id of a run of two sessions."""
  assert importlib.util.find_spec(name), f"needs pip install '.[{name}]'"
  python(_RUN, name)
  return json.loads((folder / "runs/mine/destinations.json").read_text())[name]


@pytest.mark.parametrize(
  ("name", "read"), [("mlflow", _READ_MLFLOW), ("trackio", _READ_TRACKIO)]
)
def test_two_sessions_are_one_run_with_each_step_once(python, tmp_path, name, read):
  run_id = sent(python, tmp_path, name)
  assert python(read, run_id).splitlines()[-1] == "[1, 2, 3, 4, 5, 6, 7]"


def test_two_sessions_offline_are_one_run_of_wandb(python, tmp_path):
  run_id = sent(python, tmp_path, "wandb")
  files = list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
  assert [path.stem for path in files] == [f"run-{run_id}"] * 2
  assert all(b"selection/precision" in path.read_bytes() for path in files)
  pictures = (tmp_path / "wandb").glob("offline-run-*/files/media/images/*.png")
  assert len(list(pictures)) == 2
