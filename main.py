"""Pretrains or evaluates CLIM: python main.py --config=configs/digits.py."""

import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow only reads images

from absl import app, flags, logging
from ml_collections import config_flags

from clim_jax import configuration, launch

_DEFAULT_CONFIG = "configs/digits.py"
_CONFIG = config_flags.DEFINE_config_file("config", _DEFAULT_CONFIG, "What to run.")
_MODE = flags.DEFINE_enum("mode", "pretrain", ["pretrain", "evaluate"], "What to do.")
_WORKDIR = flags.DEFINE_string(
  "workdir", "", "Where the run lives; a new folder below runs/ by default."
)
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed", False, "One of several processes; Cloud TPU and Slurm need no more."
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many there are.")
_PROCESS = flags.DEFINE_integer("process_id", None, "Which one this is.")


def main(_: list[str]) -> None:
  logging.set_verbosity(logging.WARNING)  # Orbax narrates every save
  if _DISTRIBUTED.value:
    launch.join_processes(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
  config = _CONFIG.value
  workdir = _WORKDIR.value
  if not workdir:
    if _DISTRIBUTED.value or _MODE.value == "evaluate":
      raise configuration.ConfigError("--workdir is needed here")
    workdir = f"runs/{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
  launch.run(config, _MODE.value, pathlib.Path(workdir))


def _parse_flags(arguments: list[str]) -> list[str]:
  """absl's parser, after unknown config keys have been named properly."""
  path = _DEFAULT_CONFIG
  for argument in arguments:
    name, _, value = argument.lstrip("-").partition("=")
    path = value if name == "config" and value else path
  configuration.check_override_keys(arguments[1:], configuration.load(path))
  return app.parse_flags_with_usage(arguments)


if __name__ == "__main__":
  try:
    app.run(main, flags_parser=_parse_flags)
  except configuration.ConfigError as error:
    sys.exit(f"error: {error}")
