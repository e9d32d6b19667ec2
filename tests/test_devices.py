"""What JAX runs on, by what the kernel and the environment show."""

import fnmatch
import os
import subprocess
import sys
import types

import jax
import pytest

from clim_jax import devices

_PROGRAM = """
from clim_jax import devices
devices.pass_over_absent_tpu()
import jax
print(jax.config.jax_platforms, jax.default_backend())
"""


@pytest.fixture
def machine(monkeypatch):
  """Sets what the kernel shows, whether a plugin is there, and what JAX was told."""

  def be(*files, plugin=False, platforms=None):
    def found(pattern):
      return [file for file in files if fnmatch.fnmatch(file, pattern)]

    monkeypatch.setattr(devices.glob, "glob", found)
    monkeypatch.setattr(devices, "_has_plugin", lambda: plugin)
    config = types.SimpleNamespace(jax_platforms=platforms)
    config.update = lambda key, value: setattr(config, key, value)
    monkeypatch.setattr(devices.jax, "config", config)
    for name in [n for n in os.environ if n.startswith(("TPU_", "JAX_PLATFORMS"))]:
      monkeypatch.delenv(name)
    return config

  return be


def test_a_machine_with_a_cpu_alone_is_asked_for_nothing_else(machine, monkeypatch):
  config = machine()
  # Set by JAX and libtpu as they are imported.
  for name in ("TPU_SKIP_MDS_QUERY", "TPU_LIBRARY_PATH", "TPU_ML_PLATFORM"):
    monkeypatch.setenv(name, "1")
  devices.pass_over_absent_tpu()
  assert config.jax_platforms == "cpu"


@pytest.mark.parametrize(
  ("files", "plugin", "platforms", "variable"),
  [
    (("/dev/accel0",), False, None, None),
    (("/dev/vfio/0",), False, None, None),
    ((), True, None, None),  # a GPU's
    ((), False, "tpu,cpu", None),
    ((), False, None, "TPU_WORKER_ID"),
  ],
)
def test_an_accelerator_or_what_the_environment_says_is_left_alone(
  files, plugin, platforms, variable, machine, monkeypatch
):
  config = machine(*files, plugin=plugin, platforms=platforms)
  if variable:
    monkeypatch.setenv(variable, "0")
  devices.pass_over_absent_tpu()
  assert config.jax_platforms == platforms


def test_libtpu_is_silent_on_a_machine_without_a_tpu():
  environment = {k: v for k, v in os.environ.items() if not k.startswith("TPU_")}
  environment.pop("JAX_PLATFORMS", None)
  answer = subprocess.run(
    [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, text=True
  )
  assert answer.stdout == "cpu cpu\n"
  assert "TPU" not in answer.stderr


@pytest.mark.parametrize(
  ("files", "extra"),
  [(("/dev/nvidia0",), "cuda13"), (("/dev/accel0",), "tpu"), ((), None)],
)
def test_an_accelerator_that_stands_unused_is_told_with_the_mend(files, extra, machine):
  machine(*files)
  told = devices.unused_accelerator()
  assert (f'pip install -U "jax[{extra}]"' in told) if extra else told is None


def test_who_asks_for_the_cpu_is_not_told_of_a_gpu(machine, monkeypatch):
  machine("/dev/nvidia0")
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  assert devices.unused_accelerator() is None


def test_devices_are_described_in_one_phrase():
  assert devices.describe(jax.devices()[:1]) == "CPU"
  assert devices.describe(jax.devices()[:2]) == "CPU (2 devices)"
  h100 = types.SimpleNamespace(platform="gpu", device_kind="NVIDIA H100")
  assert devices.describe([h100] * 4) == "NVIDIA H100 (4 devices)"
