"""A CPU's cores as JAX's devices."""

import os
from collections.abc import Callable

import jax
import joblib

# What batch normalisation has groups for in most configs. Cores beyond take part in the
# operations of these.
_MOST_DEVICES = 8


def one_device_per_core(fits: Callable[[int], bool]) -> None:
  """Has JAX take a CPU for a device for each core, as far as they fit.

  XLA runs most operations of a small network on one core, one after the other. A device
  for each core gives each its own images instead, as data parallelism does elsewhere.

  JAX must not have looked for devices yet. Nothing is changed where the environment
  says how many devices there are, or where several processes share a mesh.

  Args:
    fits: whether what is to run can be shared out to so many.
  """
  said = jax.config.jax_num_cpu_devices >= 0
  said |= "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
  if said or jax.distributed.is_initialized():
    return
  cores = min(joblib.cpu_count(), _MOST_DEVICES)
  fitting = (devices for devices in range(cores, 1, -1) if fits(devices))
  jax.config.update("jax_num_cpu_devices", next(fitting, 1))
