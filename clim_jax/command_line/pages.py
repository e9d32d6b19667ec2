"""What can be asked of the command line to read: help, keys, version."""

import itertools
import os
import sys
import textwrap
from collections.abc import Sequence

import clim_jax
from clim_jax.command_line.key_list import key_list
from clim_jax.command_line.table import FLAGS, MODES, example, modes_of
from clim_jax.experiment import configuration


def page(arguments: Sequence[str]) -> str | None:
  """What is to be read instead of run; None if nothing is.

  Raises:
    ConfigError: keys are asked for that there are not.
  """
  for argument, following in itertools.zip_longest(
    arguments, arguments[1:], fillvalue=""
  ):
    name, equals, text = argument.partition("=")
    if name in ("-h", "--help", "-help", "--helpfull", "--helpshort"):
      return _help()
    if name == "--version":
      return clim_jax.__version__
    if name in ("--keys", "-keys"):
      is_prefix = not equals and not following.startswith("-")
      return key_list(following if is_prefix else text)
  return None


def _help() -> str:
  name = os.path.basename(sys.argv[0])
  program = f"python {name}" if name.endswith(".py") else name
  modes = {
    name: ": ".join([mode.what, " ".join(map(example, mode.needs))]).removesuffix(": ")
    for name, mode in MODES.items()
  }
  flags = {
    example(name): f"{', '.join(modes_of(name))}: {flag.what}".removeprefix(": ")
    for name, flag in FLAGS.items()
  }
  more = {
    "--keys": "every key, with its default and what it means",
    "--keys=moco": "those of a section, or whose name begins so",
    "--config.KEY=VALUE": "sets one, such as --config.epochs=5",
  }
  return "\n".join(
    [
      f"usage: {program} [MODE] [--config=NAME] [--workdir=DIR] [--config.KEY=VALUE …]",
      *_table("Modes", modes),
      *_table("Flags", flags),
      *_table("Configs, by name or by the path of a file", configuration.names()),
      *_table("Keys of a config", more),
    ]
  )


def _table(title: str, rows: dict[str, str]) -> list[str]:
  width = max(len(name) for name in rows)
  lines = ["", title]
  for name, what in rows.items():
    first, *others = textwrap.wrap(what, 84 - width)
    lines.append(f"  {name:<{width}}  {first}")
    lines += [" " * (width + 4) + line for line in others]
  return lines
