"""What JAX runs on, and what this machine has besides."""

import glob
import importlib.metadata
import importlib.util
import os
import pathlib

import jax

# How the kernel shows them: (what, files, extra of JAX's package).
_ACCELERATORS = (
  ("an NVIDIA GPU", ("/proc/driver/nvidia/version", "/dev/nvidia[0-9]*"), "cuda13"),
  ("a TPU", ("/dev/accel*", "/dev/vfio/[0-9]*"), "tpu"),
)
_CONTAINER_LIMITS = (  # of control groups, version 2 and 1
  pathlib.Path("/sys/fs/cgroup/memory.max"),
  pathlib.Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
# By JAX and by libtpu as they are imported.
_SET_ANYWAY = {"TPU_SKIP_MDS_QUERY", "TPU_LIBRARY_PATH"}
_SET_ANYWAY |= {"TPU_ML_PLATFORM", "TPU_ML_PLATFORM_VERSION"}


def pass_over_absent_tpu() -> None:
  """Has JAX use the CPU where there is nothing else; libtpu would ask and complain.

  To be called before JAX looks for devices. Nothing is changed where the environment
  says what to use, where the kernel shows a TPU, or where a plugin of JAX is installed
  for other devices, such as GPUs.
  """
  names = {name for name in os.environ if name.startswith(("TPU_", "JAX_FORCE_TPU"))}
  said = jax.config.jax_platforms or names - _SET_ANYWAY
  if not (said or _has_plugin() or _present(_ACCELERATORS[1][1])):
    jax.config.update("jax_platforms", "cpu")


def unused_accelerator() -> str | None:
  """One line if JAX uses the CPU of a machine that has more, and nobody said so."""
  said = os.environ.get("JAX_PLATFORMS")
  if said or _has_plugin() or jax.default_backend() != "cpu":
    return None  # a plugin that fails says why itself
  for what, files, extra in _ACCELERATORS:
    if _present(files):
      return (
        f"this machine has {what} that JAX does not use, and a CPU is many times "
        f'slower; pip install -U "jax[{extra}]"'
      )
  return None


def describe(devices: list[jax.Device]) -> str:
  """Such as "CPU (2 devices)" or "NVIDIA H100 80GB HBM3"."""
  kind = "CPU" if devices[0].platform == "cpu" else devices[0].device_kind
  return kind if len(devices) == 1 else f"{kind} ({len(devices)} devices)"


def _present(patterns: tuple[str, ...]) -> bool:
  return any(glob.glob(pattern) for pattern in patterns)


def _has_plugin() -> bool:
  named = importlib.metadata.entry_points(group="jax_plugins")
  return bool(named) or importlib.util.find_spec("jax_plugins") is not None


def device_memory(device: jax.Device) -> int:
  """Bytes of a device's memory; a CPU's devices share that of the host evenly."""
  if device.platform != "cpu":
    return (device.memory_stats() or {}).get("bytes_limit", 0)
  return _host_memory() // device.client.local_device_count()


def _host_memory() -> int:
  """Bytes that this process may use, also in a container."""
  found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
  for path in _CONTAINER_LIMITS:
    if path.exists() and (text := path.read_text().strip()).isdigit():
      found.append(int(text))
  return min(found)
