"""Configs as text: overrides checked, saved with a run, compared on resuming."""

import difflib
import importlib.util
import itertools
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from etils import epath
from ml_collections import ConfigDict

# Keys that may change between the sessions of one run: they do not shape training.
_FREE_SECTIONS = ("log", "checkpoint", "online", "evaluation")
_FREE_KEYS = ("augment.implementation",)
# Those of a run that is looked at again, perhaps on other images.
_MAY_DIFFER = [[section] for section in (*_FREE_SECTIONS, "data")]


class ConfigError(ValueError):
  """A config that cannot work; the message has the value, the limit and the mend."""


def load(path: str) -> ConfigDict:
  """The config that `get_config` of a Python file returns."""
  spec = importlib.util.spec_from_file_location("clim_config", path)
  if spec is None or not epath.Path(path).is_file():
    raise ConfigError(f"config file {path!r} does not exist")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config()


class Given(NamedTuple):
  """What a command line says itself, apart from defaults."""

  config_file: bool  # whether it names a config
  keys: tuple[str, ...]  # that it overrides, such as "evaluation.step"


def given(arguments: Sequence[str]) -> Given:
  """Of the arguments of a command line."""
  names = [argument.lstrip("-").split("=", 1)[0] for argument in arguments]
  keys = tuple(n.removeprefix("config.") for n in names if n.startswith("config."))
  return Given("config" in names, keys)


def check_override_keys(arguments: Sequence[str], *, default_path: str) -> None:
  """Raises ConfigError for a `--config.some.key` that the config has not.

  Args:
    arguments: of the command line; `--config=PATH` names the config.
    default_path: the config if they do not.
  """
  known = flatten(load(_config_path(arguments, default_path)))
  for key in given(arguments).keys:
    if key in known:
      continue
    # A key of a wrong section is still found by its last part.
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    last = key.rsplit(".", 1)[-1]
    by_name = {name.rsplit(".", 1)[-1]: name for name in known}
    close = difflib.get_close_matches(last, by_name, n=1, cutoff=0.75)
    nearest = by_name[close[0]] if close else near[0]
    raise ConfigError(
      f"the config has no key {key!r}; the nearest is --config.{nearest} "
      f"(now {known[nearest]!r})"
    )


def _config_path(arguments: Sequence[str], default_path: str) -> str:
  path = default_path
  pairs = itertools.zip_longest(arguments, arguments[1:], fillvalue="")
  for argument, following in pairs:
    if argument in ("--config", "-config"):
      path = following
    elif argument.startswith(("--config=", "-config=")):
      path = argument.split("=", 1)[1]
  return path


def flatten(config: ConfigDict | dict, prefix: str = "") -> dict[str, Any]:
  """Nested keys joined by dots."""
  flat: dict[str, Any] = {}
  for key, value in config.items():
    if isinstance(value, ConfigDict | dict):
      flat |= flatten(value, f"{prefix}{key}.")
    else:
      flat[prefix + key] = value
  return flat


def save(config: ConfigDict, path: epath.Path) -> None:
  path.write_text(json.dumps(config.to_dict(), indent=2) + "\n")


def differences(config: ConfigDict, path: epath.Path) -> list[str]:
  """Keys whose value is not the saved one, as "key: saved → given" lines."""
  saved = flatten(json.loads(path.read_text()))
  given = flatten(json.loads(json.dumps(config.to_dict())))
  return [
    f"{key}: {saved.get(key, '(none)')} → {given.get(key, '(none)')}"
    for key in sorted(saved | given)
    if saved.get(key) != given.get(key)
    and key.split(".")[0] not in _FREE_SECTIONS
    and key not in _FREE_KEYS
  ]


WHOLE_CONFIG = Given(config_file=True, keys=())


def restore_into(
  config: ConfigDict, path: epath.Path, said: Given = WHOLE_CONFIG
) -> ConfigDict:
  """The saved config of a run, with what may differ when it is looked at again.

  That are the free sections, if a config was named, and overrides of them, of `data`
  and of the evaluation crop. Keys that an older version did not save have this
  config's values.

  Raises:
    ConfigError: an override of what the run was trained with.
  """
  saved = ConfigDict(json.loads(path.read_text()))
  _fill(saved, config)
  if said.config_file:
    for section in _FREE_SECTIONS:
      saved[section] = config[section]
  for key in said.keys:
    *sections, name = key.split(".")
    if not (key.startswith("views.evaluation_") or sections[:1] in _MAY_DIFFER):
      raise ConfigError(
        f"{key} cannot be overridden: it is what the run of {path} was trained with"
      )
    source, target = config, saved
    for section in sections:
      source, target = source[section], target[section]
    target[name] = source[name]
  return saved


def _fill(config: ConfigDict, defaults: ConfigDict) -> None:
  for key, value in defaults.items():
    if key not in config:
      config[key] = value
    elif isinstance(value, ConfigDict):
      _fill(config[key], value)
