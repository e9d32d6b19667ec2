"""Starts what is asked for: devices, workdir, mode."""

import io
import os

# TensorFlow only reads images: no notes on its kernels.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import jax
from etils import epath
from ml_collections import ConfigDict
from rich.console import Console

from clim_jax import devices
from clim_jax.experiment import cores
from clim_jax.launch.modes import MODES
from clim_jax.launch.request import Request
from clim_jax.memory import keep_freed_memory

__all__ = ["MODES", "Request", "join_processes", "prepare", "run"]

# After so many seconds a process that is not heard of counts as dead, and ends others.
_SILENCE = 60
_CACHE = epath.Path("~/.cache/clim_jax").expanduser()


def join_processes(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
  """Makes this process one of several; where the cluster is known, None will do."""
  jax.distributed.initialize(
    coordinator,
    num_processes,
    process_id,
    heartbeat_timeout_seconds=_SILENCE,
  )


def run(
  config: ConfigDict,
  mode: str,
  workdir: epath.Path,
  request: Request | None = None,
) -> None:
  """Does what the mode says; after pretraining comes an evaluation.

  Args:
    config: what to run; with a run in `workdir`, the saved config stands, save for
      its free sections.
    mode: one of MODES.
    workdir: where a run lives. Without one there, `model.weights` takes its place in
      all modes but pretraining.
    request: files of embed and export, and what is overridden.

  Raises:
    ConfigError: the config cannot work, or is not that of the run in `workdir`.
  """
  request = request or Request()
  cores.use_cores(config, mode, workdir, request.overrides)
  prepare()
  # A quiet console still prints warnings, but not from every process.
  others = jax.process_index() != 0
  console = Console(
    quiet=request.quiet or others, file=io.StringIO() if others else None
  )
  MODES[mode](config, workdir, console, request)


def prepare() -> None:
  """What everything gains by: memory is kept, and programs from run to run."""
  devices.pass_over_absent_tpu()
  keep_freed_memory(of_programs=jax.default_backend() == "cpu")
  # Unless the user says where or not.
  if jax.config.jax_compilation_cache_dir is None:
    jax.config.update("jax_compilation_cache_dir", str(_CACHE))
