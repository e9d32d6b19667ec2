"""A CPU's cores as JAX's devices."""

import os
from collections.abc import Callable

import jax
import joblib
from etils import epath
from ml_collections import ConfigDict

from clim_jax.experiment import configuration
from clim_jax.experiment.configuration import WHOLE_CONFIG, ConfigError, Overrides
from clim_jax.experiment.limits import check_config, check_evaluation
from clim_jax.models.resnet import ARCHITECTURES, feature_dim

_WIDEST = 256  # features of a network that gains by it, at most; measured
_MOST_DEVICES = 8  # as many as most configs have groups of batch normalisation
# XLA ends a process in which one device waits 60 s for another, by default. Here they
# share a machine: one that swaps is slow and not stuck.
_PATIENCE = "--xla_cpu_collective_call_terminate_timeout_seconds=3600"


def use_cores(
  config: ConfigDict,
  mode: str,
  workdir: epath.Path,
  overrides: Overrides = WHOLE_CONFIG,
) -> None:
  """`one_device_per_core` for what `launch.run` is to do with the same arguments.

  Of a large network each operation occupies all cores anyhow, and every device would
  have its own copy of the parameters to update: there it stays one.

  Args:
    config: what to run; where no run begins, the config of the one in `workdir`
      stands, save for what may differ.
    mode: one of `launch.MODES`.
    workdir: where a run lives.
    overrides: of the config, by the command line.

  Raises:
    ConfigError: an override of what the run was trained with.
  """
  heed_container()
  saved, check = workdir / "config.json", check_config
  if mode not in ("pretrain", "plan"):
    check = check_evaluation
    if saved.exists() and not config.model.weights:
      config = configuration.restore_into(config, saved, overrides)

  def fits(devices: int) -> bool:
    try:
      check(config, devices=devices)
    except ConfigError:
      return False
    return is_small(config.model)

  one_device_per_core(fits)


def heed_container() -> None:
  """Has XLA take as many threads as cores may be used, where a container has fewer.

  XLA and TensorFlow heed the cores a process is bound to, but not a container's quota
  of their time. JAX must not have looked for devices yet.
  """
  usable = joblib.cpu_count()
  if usable < (os.cpu_count() or 1):
    os.environ.setdefault("NPROC", str(usable))


def is_small(model: ConfigDict) -> bool:
  """Whether the network gains by a device for each core: up to 256 features."""
  known = model.backbone in ARCHITECTURES
  return known and feature_dim(model.backbone, model.width) <= _WIDEST


def one_device_per_core(fits: Callable[[int], bool]) -> None:
  """Has JAX take a CPU for a device for each core, as far as they fit.

  XLA runs most operations of a small network on one core, one after the other. A device
  for each core gives each its own images instead, as data parallelism does elsewhere.

  Nothing is changed where it stays one, where JAX has looked for devices already, where
  the environment says how many there are, or where several processes share a mesh.

  Args:
    fits: whether what is to run can be shared out to so many.
  """
  flags = os.environ.get("XLA_FLAGS", "")
  said = jax.config.jax_num_cpu_devices >= 0
  said |= "xla_force_host_platform_device_count" in flags
  if said or jax.distributed.is_initialized():
    return
  cores = min(joblib.cpu_count(only_physical_cores=True), _MOST_DEVICES)
  devices = next((count for count in range(cores, 1, -1) if fits(count)), 1)
  if devices > 1:
    try:
      jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:  # a notebook, say, has used JAX already
      return
    os.environ["XLA_FLAGS"] = f"{_PATIENCE} {flags}"  # the last of a kind holds
