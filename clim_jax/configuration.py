"""Configs as text: overrides checked, saved with a run, compared on resuming."""

import difflib
import importlib.util
import itertools
import json
from collections.abc import Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

# Keys that may change between the sessions of one run: they do not shape training.
_FREE_SECTIONS = ("log", "checkpoint", "online", "evaluation")


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


def check_override_keys(arguments: Sequence[str], *, default_path: str) -> None:
  """Raises ConfigError for a `--config.some.key` that the config has not.

  Args:
    arguments: of the command line; `--config=PATH` names the config.
    default_path: the config if they do not.
  """
  known = flatten(load(_config_path(arguments, default_path)))
  for argument in arguments:
    key = argument.lstrip("-").split("=", 1)[0].removeprefix("config.")
    if not argument.lstrip("-").startswith("config.") or key in known:
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
    if saved.get(key) != given.get(key) and key.split(".")[0] not in _FREE_SECTIONS
  ]


def restore_into(config: ConfigDict, path: epath.Path) -> ConfigDict:
  """The saved config, with this one's free sections: what an evaluation runs on.

  Keys that an older version did not save have this config's values.
  """
  saved = ConfigDict(json.loads(path.read_text()))
  _fill(saved, config)
  for section in _FREE_SECTIONS:
    saved[section] = config[section]
  return saved


def _fill(config: ConfigDict, defaults: ConfigDict) -> None:
  for key, value in defaults.items():
    if key not in config:
      config[key] = value
    elif isinstance(value, ConfigDict):
      _fill(config[key], value)
