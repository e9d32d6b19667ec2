"""How many devices a CPU has."""

import os
import subprocess
import sys

import joblib
import pytest

from clim_jax import launch
from clim_jax.configs import smoke
from clim_jax.experiment import configuration, cores
from clim_jax.experiment.configuration import ConfigError, Overrides

_PROGRAM = """
import jax, joblib, pathlib
from clim_jax.experiment import cores
from clim_jax.configs import smoke
joblib.cpu_count = lambda only_physical_cores=False: 3
config = smoke.get_config()
config.batch_size = config.evaluation.batch_size = 12
config.model.batch_norm_groups = 6
config.evaluation.protocols = ()
cores.use_cores(config, "pretrain", pathlib.Path("none"))
print(jax.device_count())
"""


@pytest.fixture
def chosen(monkeypatch):
  """What JAX is told, with a machine of six cores that says nothing itself."""
  cores.jax.devices()  # found before the environment is another
  told = []
  monkeypatch.setenv("XLA_FLAGS", "")
  monkeypatch.setenv("NPROC", "6")  # restored, whatever is set meanwhile
  monkeypatch.setattr(joblib, "cpu_count", lambda only_physical_cores=False: 6)
  monkeypatch.setattr(cores.jax.config, "update", lambda *option: told.append(option))
  return told


def _said(devices):
  return [("jax_num_cpu_devices", devices)] * (devices > 1)


@pytest.mark.parametrize(
  ("available", "fits", "devices"),
  [
    (2, lambda devices: True, 2),
    (6, lambda devices: True, 6),
    (6, lambda devices: 8 % devices == 0, 4),
    (6, lambda devices: False, 1),
    (1, lambda devices: True, 1),
    (64, lambda devices: True, 8),
  ],
)
def test_a_device_for_each_core_as_far_as_they_fit(
  available, fits, devices, chosen, monkeypatch
):
  monkeypatch.setattr(joblib, "cpu_count", lambda only_physical_cores=False: available)
  cores.one_device_per_core(fits)
  assert chosen == _said(devices)


@pytest.mark.parametrize(
  ("says", "devices"),
  [
    ({}, 3),
    ({"XLA_FLAGS": "--xla_cpu_enable_fast_math=false"}, 3),
    ({"XLA_FLAGS": "--xla_force_host_platform_device_count=5"}, 5),
    ({"JAX_NUM_CPU_DEVICES": "2"}, 2),
  ],
)
def test_jax_sees_them_unless_the_environment_says_how_many(says, devices):
  environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
  answer = subprocess.run(
    [sys.executable, "-c", _PROGRAM],
    env=environment | {"JAX_PLATFORMS": "cpu"} | says,
    check=True,
    capture_output=True,
    text=True,
  )
  assert int(answer.stdout) == devices


def test_devices_wait_for_each_other_as_long_as_the_environment_says_or_an_hour(
  chosen, monkeypatch
):
  flag = "--xla_cpu_collective_call_terminate_timeout_seconds="
  monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
  cores.one_device_per_core(lambda devices: True)
  assert f"{flag}3600" in os.environ["XLA_FLAGS"].split()
  monkeypatch.setenv("XLA_FLAGS", f"{flag}7")
  cores.one_device_per_core(lambda devices: True)
  assert os.environ["XLA_FLAGS"].split()[-1] == f"{flag}7"


def test_one_device_leaves_the_environment_as_it_is(chosen):
  cores.one_device_per_core(lambda devices: False)
  assert not chosen
  assert not os.environ["XLA_FLAGS"]


def test_one_of_several_processes_is_left_alone(chosen, monkeypatch):
  monkeypatch.setattr(cores.jax.distributed, "is_initialized", lambda: True)
  cores.one_device_per_core(lambda devices: True)
  assert not chosen


@pytest.mark.parametrize(
  ("groups", "evaluation_batch", "pretraining", "evaluation"),
  [
    (8, 256, 4, 4),
    (6, 256, 2, 4),
    (2, 256, 2, 4),
    (-1, 256, 1, 4),
    (0, 256, 4, 4),
    (6, 258, 6, 6),
  ],
)
def test_batches_divide_by_their_number(
  groups, evaluation_batch, pretraining, evaluation, chosen, tmp_path
):
  config = smoke.get_config()
  config.batch_size, config.moco.queue_size = 48, 96
  config.model.batch_norm_groups = groups
  config.evaluation.protocols = ("knn",)
  config.evaluation.batch_size = evaluation_batch
  cores.use_cores(config, "pretrain", tmp_path)
  cores.use_cores(config, "evaluate", tmp_path)
  assert chosen == _said(pretraining) + _said(evaluation)


@pytest.mark.parametrize(
  ("backbone", "width", "devices"),
  [
    ("resnet_small", 32, 6),
    ("resnet_small", 64, 6),
    ("resnet18", 32, 6),
    ("resnet18", 64, 1),
    ("resnet50", 64, 1),
    ("no_such", 32, 1),
  ],
)
@pytest.mark.parametrize("mode", ["pretrain", "evaluate"])
def test_large_networks_have_one_device(
  mode, backbone, width, devices, chosen, tmp_path
):
  config = smoke.get_config()
  config.batch_size = config.evaluation.batch_size = 24
  config.evaluation.protocols = ("knn",)
  config.model.update(backbone=backbone, width=width, batch_norm_groups=6)
  cores.use_cores(config, mode, tmp_path)
  assert chosen == _said(devices)


def test_a_run_is_judged_on_as_many_as_its_own_batches_divide_by(chosen, tmp_path):
  config = smoke.get_config()
  config.evaluation.protocols = ("knn",)
  config.evaluation.batch_size = 15
  configuration.save(config, tmp_path / "config.json")
  config.evaluation.batch_size = 16
  cores.use_cores(config, "evaluate", tmp_path, Overrides(False, ()))
  cores.use_cores(config, "evaluate", tmp_path, Overrides(True, ()))
  assert chosen == _said(5) + _said(4)


def test_weights_from_elsewhere_leave_the_refusal_to_the_run(chosen, tmp_path):
  config = smoke.get_config()
  configuration.save(config, tmp_path / "config.json")
  config.model.weights = "weights.pth"
  changed = Overrides(False, ("model.weights",))
  cores.use_cores(config, "evaluate", tmp_path, changed)
  with pytest.raises(ConfigError, match=r"holds a run and model\.weights"):
    launch.run(config, "evaluate", tmp_path, launch.Request(overrides=changed))


def test_a_run_takes_its_cores_before_it_looks_for_devices(monkeypatch, tmp_path):
  config, request = smoke.get_config(), launch.Request(overrides=Overrides(False, ()))

  class Enough(Exception):
    pass

  def look():
    raise Enough

  called = []
  monkeypatch.setattr(cores, "use_cores", lambda *said: called.append(said))
  monkeypatch.setattr(launch.jax, "default_backend", look)
  with pytest.raises(Enough):
    launch.run(config, "evaluate", tmp_path, request)
  assert called == [(config, "evaluate", tmp_path, request.overrides)]


def test_devices_that_jax_has_found_stay_as_they_are(chosen, monkeypatch):
  def too_late(*option):
    raise RuntimeError("backends are initialized")

  monkeypatch.setattr(cores.jax.config, "update", too_late)
  cores.one_device_per_core(lambda devices: True)
  assert not os.environ["XLA_FLAGS"]


@pytest.mark.parametrize(
  ("machine", "usable", "said", "threads"),
  [
    (64, 2, None, "2"),  # a container's share
    (64, 64, None, None),
    (64, 2, "5", "5"),
    (None, 1, None, None),
  ],
)
def test_xla_has_no_more_threads_than_cores_may_be_used(
  machine, usable, said, threads, monkeypatch
):
  monkeypatch.setenv("NPROC", said or "")
  if said is None:
    del os.environ["NPROC"]
  monkeypatch.setattr(os, "cpu_count", lambda: machine)
  monkeypatch.setattr(joblib, "cpu_count", lambda: usable)
  cores.heed_container()
  assert os.environ.get("NPROC") == threads
