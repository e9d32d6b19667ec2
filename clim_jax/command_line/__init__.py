"""The command line: `python main.py`, or `clim` once installed.

Nothing heavy is imported before what was typed is known to be right.
"""

import os
import signal
import sys

from absl import logging
from etils import epath

from clim_jax.command_line.pages import page
from clim_jax.command_line.parse import Command, parse
from clim_jax.experiment import keys
from clim_jax.experiment.error import ConfigError


def main() -> None:
  """Does what the arguments of this process say; ends it where they are wrong."""
  arguments = sys.argv[1:]
  try:
    asked = page(arguments)
    if asked is not None:
      signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `clim --keys | head` reads a part
      print(asked)
      return
    command = parse(arguments)
  except ConfigError as error:
    sys.exit(f"error: {keys.with_flags(str(error))}")
  _run(command)


def _run(command: Command) -> None:
  # These take seconds: jax, TensorFlow and all that stands on them.
  from clim_jax import launch
  from clim_jax.data.source import BadImageError
  from clim_jax.pretrain.interruption import Interrupted

  logging.set_verbosity(logging.WARNING)  # Orbax narrates every save
  values = command.flags
  try:
    if values["distributed"]:
      launch.join_processes(
        values["coordinator"], values["num_processes"], values["process_id"]
      )
    files = (values[name] or "" for name in ("input", "output", "format"))
    request = launch.Request(*files, command.overrides, bool(values["quiet"]))
    launch.run(command.config, command.mode, epath.Path(values["workdir"]), request)
  except (ConfigError, BadImageError, FloatingPointError, OSError) as error:
    sys.exit(f"error: {keys.with_flags(str(error))}")
  except Interrupted as stop:
    print(f"stopped: {stop}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    if values["distributed"]:
      sys.exit(stop.exit_code)  # the processes take leave of each other
    os._exit(stop.exit_code)  # all is saved; TensorFlow would take longer to end
  except KeyboardInterrupt:
    sys.exit(130)
