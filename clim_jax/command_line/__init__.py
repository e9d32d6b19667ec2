"""The command line: `python main.py`, or `clim` once installed.

Nothing heavy is imported before what was typed is known to be right.
"""

import os
import signal
import sys
from logging import LogRecord
from typing import Any

from absl import logging
from etils import epath

from clim_jax.command_line import disk
from clim_jax.command_line.pages import page
from clim_jax.command_line.parse import Command, parse
from clim_jax.command_line.watched import watched
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
  if command.mode in _READERS:
    _read(command)
  elif command.flags["distributed"]:
    watched(lambda: _run(command))
  else:
    _run(command)


def _read(command: Command) -> None:
  """A mode that reads files alone: it takes no device and opens no data."""
  try:
    _READERS[command.mode](command)
  except ConfigError as error:
    sys.exit(f"error: {keys.with_flags(str(error))}")
  except OSError as error:
    sys.exit(f"error: {disk.told(error, command.flags['output'], command.mode)}")


def _list_runs(command: Command) -> None:
  from rich.console import Console

  from clim_jax.report.run_list import print_runs

  print_runs(epath.Path(command.flags["workdir"]), Console())


def _compare(command: Command) -> None:
  from clim_jax.report.compare import write_comparison

  names = filter(None, command.flags["runs"].split(","))
  runs = [epath.Path(name.strip()).expanduser() for name in names]
  print(write_comparison(runs, epath.Path(command.flags["output"])))


def _convert(command: Command) -> None:
  from rich.console import Console

  from clim_jax.sets.convert import convert

  console = Console(quiet=bool(command.flags["quiet"]))
  convert(command.flags["input"], command.flags["output"], console)


_READERS = {"runs": _list_runs, "compare": _compare, "convert": _convert}


def _run(command: Command) -> None:
  # These take seconds: jax, TensorFlow and all that stands on them.
  import jax

  from clim_jax import launch
  from clim_jax.data.source import BadImageError
  from clim_jax.experiment.checkpoints import SaveError
  from clim_jax.pretrain.interruption import Interrupted

  logging.set_verbosity(logging.WARNING)  # Orbax narrates every save
  logging.get_absl_logger().addFilter(_brief)
  sys.unraisablehook = _but_late_answers
  values = command.flags
  try:
    if values["distributed"]:
      launch.join_processes(
        values["coordinator"], values["num_processes"], values["process_id"]
      )
    request = launch.Request(
      input=values["input"] or "",
      output=values["output"] or "",
      format=values["format"] or "",
      overrides=command.overrides,
      quiet=bool(values["quiet"]),
      target=values["target"] or "",
      price_per_hour=values["price-per-hour"],
      atlas=bool(values["atlas"]),
    )
    launch.run(command.config, command.mode, epath.Path(values["workdir"]), request)
  except SaveError as error:
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(1)  # what was to be saved would be told once more, thread by thread
  except (ConfigError, BadImageError, FloatingPointError) as error:
    sys.exit(f"error: {keys.with_flags(str(error))}")
  except OSError as error:
    told = disk.told(error, values["workdir"], command.mode)
    sys.exit(f"error: {keys.with_flags(told)}")
  except jax.errors.JaxRuntimeError as error:
    told = _told(str(error), bool(values["distributed"]))
    if told is None:
      raise
    sys.exit(f"error: {told}")
  except Interrupted as stop:
    print(f"stopped: {stop}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    if values["distributed"]:
      sys.exit(stop.exit_code)  # the processes take leave of each other
    os._exit(stop.exit_code)  # all is saved; TensorFlow would take longer to end
  except KeyboardInterrupt:
    sys.exit(130)
  except Exception as error:
    if not _is_read_error(error):
      raise
    sys.exit(f"error: {str(error).splitlines()[0]}")


def _is_read_error(error: Exception) -> bool:
  """Whether it is TensorFlow's, of reading; without importing it to find out."""
  encoded = sys.modules.get("clim_jax.data.encoded")
  return encoded is not None and isinstance(error, encoded.ReadError)


def _brief(record: LogRecord) -> bool:
  """What fails in a library's thread is raised here too: without its traceback."""
  record.exc_info = None
  return True


def _but_late_answers(error: Any) -> None:
  """Prints an error of a thread, unless it is that nobody waits for a failed write.

  Where a disk is full, tensorstore's threads answer to a save that has ended: through
  this hook, with a traceback for each file. The failure itself is told.
  """
  if str(error.exc_value) != "Event loop is closed":
    sys.__unraisablehook__(error)


def _told(error: str, is_one_of_several: bool) -> str | None:
  """What an error of the runtime means for a person; None: it is ours to mend."""
  first_line = error.strip().split("\n")[0][:300]
  if "RESOURCE_EXHAUSTED" in error:
    return keys.with_flags(
      f"out of memory ({first_line}): lower batch_size or moco.queue_size, have "
      "smaller or fewer views.sides, or set model.recompute=True"
    )
  if is_one_of_several:
    return (
      f"another process of the run has died or cannot be reached ({first_line}). The "
      "first process that ended says why; the same command in all of them goes on from "
      "the newest checkpoint"
    )
  return None
