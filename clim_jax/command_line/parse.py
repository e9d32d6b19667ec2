"""From arguments to what they ask for, or to an error that says what was meant."""

import difflib
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import flags
from etils import epath
from ml_collections import ConfigDict

from clim_jax.command_line.table import (
  BEGINNING,
  DEFAULT_CONFIG,
  FLAGS,
  MODES,
  PATHS,
  example,
  modes_of,
)
from clim_jax.experiment import configuration, keys
from clim_jax.experiment.configuration import Overrides
from clim_jax.experiment.error import ConfigError


class Command(NamedTuple):
  """What was typed, checked."""

  mode: str
  config: ConfigDict
  overrides: Overrides
  flags: dict[str, Any]  # by name; None where it was not given


def parse(arguments: Sequence[str]) -> Command:
  """The command that the arguments of a process make.

  Raises:
    ConfigError: a word, flag, key or value that means nothing, with what comes
      nearest; or one that is missing.
  """
  said, others = _split(arguments)
  values, words = _parse_flags(others)
  mode = _take_mode(values.pop("mode"), words, arguments)
  _check_flags(mode, values)
  for name in PATHS:
    values[name] = values[name] and os.path.expanduser(values[name])
  name = values.pop("config")
  config = configuration.load(name or DEFAULT_CONFIG)
  keys.override(config, {key: keys.from_text(key, text) for key, text in said.items()})
  values["workdir"] = values["workdir"] or _new_workdir(mode, config, values)
  return Command(mode, config, Overrides(name is not None, tuple(said)), values)


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
  """The text of each `--config.KEY=TEXT`, and all other arguments."""
  said, others, rest = {}, [], list(arguments)
  while rest:
    argument = rest.pop(0)
    key, equals, text = argument.lstrip("-").partition("=")
    if not (argument.startswith("-") and key.startswith("config.")):
      others.append(argument)
      continue
    key = key.removeprefix("config.")
    keys.check_key(key)
    if not equals and isinstance(keys.BASE[key], bool):
      text = "True"
    elif not equals:
      if not rest or rest[0].startswith("--"):
        raise ConfigError(f"--config.{key} needs a value: --config.{key}=VALUE")
      text = rest.pop(0)
    said[key] = text
  return said, others


def _parse_flags(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
  """The value of each flag, None where it is not given, and all other words."""
  parser = flags.FlagValues()  # flags may stand before and after the mode
  for name, flag in FLAGS.items():
    flag.define(name, None, flag.what, flag_values=parser)
  try:
    words = parser(["clim", *arguments])[1:]
  except flags.UnrecognizedFlagError as error:
    name = error.flagname
    typed = next(a for a in arguments if a.lstrip("-").startswith(name))
    text = typed.partition("=")[2] or "…"
    raise ConfigError(
      f"there is no flag --{name}; the nearest is {_nearest_flag(name)}={text}"
    ) from error
  except (flags.Error, ValueError) as error:
    raise ConfigError(str(error)) from error
  return {name: parser[name].value for name in FLAGS}, words


def _take_mode(mode: str | None, words: list[str], arguments: Sequence[str]) -> str:
  """The mode, as flag or word; any other word means nothing."""
  if mode is None and words and words[0] in MODES:
    mode = words.pop(0)
  if words:
    word = words[0]
    if word in MODES:
      raise ConfigError(f"{mode} and {word} are two modes: say one")
    raise ConfigError(f"{word!r} means nothing here. {_meant(word, arguments)}")
  mode = mode or "pretrain"
  if mode not in MODES:
    raise ConfigError(f"there is no mode {mode!r}. {_nearest_mode(mode)}")
  return mode


def _check_flags(mode: str, values: dict[str, Any]) -> None:
  for name, value in values.items():
    modes = modes_of(name)
    if str(value).startswith("--"):  # the next flag
      raise ConfigError(f"--{name} needs a value: {example(name)}")
    if modes and mode not in modes and value is not None:
      raise ConfigError(f"--{name} is for {', '.join(modes)}, not for {mode}")
  needs = MODES[mode].needs
  if not all(values[name] for name in needs):
    raise ConfigError(f"{mode} needs {' '.join(example(name) for name in needs)}")


def _new_workdir(mode: str, config: ConfigDict, values: dict[str, Any]) -> str:
  """Below runs/, for a run that begins here or has weights in its place."""
  if mode in ("runs", "compare", "convert"):
    return "runs"
  begins = mode in BEGINNING and not values["distributed"]
  only_reads = mode not in (*BEGINNING, "evaluate") and config.model.weights
  if not begins and not only_reads:
    raise ConfigError(f"say where the run lives: {example('workdir')}")
  return configuration.new_workdir(config)


def _meant(word: str, arguments: Sequence[str]) -> str:
  """What a person who typed a word that means nothing may have wanted."""
  before = arguments[max(arguments.index(word) - 1, 0)]
  if before != word and before.startswith("-") and "=" not in before:
    return f"Write {before}={word}"
  name, equals, text = word.partition("=")
  if equals:
    return f"Write {_nearest_flag(name)}={text}"
  config = word.removesuffix(".py").removeprefix("configs/")
  if config in configuration.names():
    return f"Write --config={config}"
  if word.endswith(".py"):
    return f"Write --config={word}"
  path = epath.Path(word).expanduser()
  if (path / "config.json").exists():
    return f"Write --workdir={word}"
  if path.is_dir():
    return f"Write --config=own_images:NUM_IMAGES --config.data.path={word}"
  return _nearest_mode(word)


def _nearest_mode(word: str) -> str:
  near = difflib.get_close_matches(word, MODES, n=1, cutoff=0.5)
  meant = f"Did you mean {near[0]}? " if near else ""
  return f"{meant}The modes are {', '.join(MODES)}"


def _nearest_flag(name: str) -> str:
  """With its dashes: a flag, or the key of a config."""
  name = name.lstrip("-")
  for key in (name, name.partition(".")[2]):
    if key in keys.BASE:
      return f"--config.{key}"
  last_parts = (key.rsplit(".", 1)[-1] for key in keys.BASE)
  close = difflib.get_close_matches(name, [*FLAGS, *last_parts], n=1)
  if close and close[0] in FLAGS:
    return f"--{close[0]}"
  return f"--config.{keys.nearest(name)}"
