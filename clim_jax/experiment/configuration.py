"""Configs as files: found by name, saved with a run, compared on resuming."""

import ast
import difflib
import importlib.util
import inspect
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from etils import epath
from ml_collections import ConfigDict

from clim_jax.configs import base
from clim_jax.experiment import keys
from clim_jax.experiment.error import ConfigError
from clim_jax.experiment.keys import flatten
from clim_jax.whole import written_whole

# What may change between the sessions of one run. These do not shape training:
_FREE_SECTIONS = ("log", "checkpoint", "online", "evaluation", "report")
# These do not either, or as the one who asks for it means it; they are said and
# recorded, with what follows.
_MAY_CHANGE = {
  "augment.implementation": "the same up to rounding",
  "data.crops": "the same crops up to rounding",
  "data.max_pixels": "larger images are bad ones from here on",
  "data.on_bad_image": "bad images are met from here on as it says",
  "data.path": "the images were compared and are the same",
  "epochs": "the learning rate follows the longer schedule from here on, and may jump",
  "model.dtype": "parameters were float32 and stay so",
  "model.recompute": "the same up to rounding",
  "optimizer.learning_rate": "the schedule keeps its course at the new height",
  "selection.scoring": "the same neighbours",
}
# Those of a run that is looked at again, perhaps on other images.
_MAY_DIFFER = [[section] for section in (*_FREE_SECTIONS, "data")]
_SHIPPED = pathlib.Path(base.__file__).parent


def names() -> dict[str, str]:
  """The configs that come with this, each with the first line of its docstring."""
  found = {}
  for path in sorted(_SHIPPED.rglob("*.py")):
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    name = path.relative_to(_SHIPPED).with_suffix("").as_posix()
    found[name] = text.split("\n")[0]
  # Those for any run, in folders, after those of a run.
  return dict(sorted(found.items(), key=lambda item: "/" in item[0]))


def load(name: str) -> ConfigDict:
  """A config by its name, such as "digits" or "evaluate/knn", or by its path.

  One that follows a number has it behind a colon: "own_images:5000".

  Raises:
    ConfigError: there is none, or its keys are not those of base.
  """
  is_path = pathlib.Path(name).expanduser().is_file()  # which may have a colon in it
  name, *numbers = [name] if is_path else name.split(":")
  path = _find(name)
  spec = importlib.util.spec_from_file_location("clim_config", path)
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    config = module.get_config(*_numbers(name, module.get_config, numbers))
    keys.conform(config)
  except Exception as error:  # whatever a person's own file raises
    kind = "" if isinstance(error, ConfigError) else f"{type(error).__name__}: "
    raise ConfigError(f"config {path}: {kind}{error}") from error
  return config


def _numbers(name: str, function: Callable[..., Any], given: list[str]) -> list[int]:
  """What a config's function is called with: a whole number for each parameter.

  A function of one's own may have others that need none, for they have a default.
  """
  parameters = inspect.signature(function).parameters.values()
  wanted = [p.name.upper() for p in parameters if p.default is p.empty]
  if len(given) != len(wanted) or not all(text.isdecimal() for text in given):
    form = ":".join([name, *wanted])
    raise ConfigError(f"--config={':'.join([name, *given])} should be --config={form}")
  return [int(text) for text in given]


def _find(name: str) -> pathlib.Path:
  path = pathlib.Path(name).expanduser()
  if path.suffix == ".py" and path.is_file():
    return path
  stem = name.removesuffix(".py").removeprefix("configs/")
  known = names()
  if stem in known:
    return _SHIPPED / f"{stem}.py"
  near = difflib.get_close_matches(stem, known, n=1, cutoff=0.5)
  meant = f"Did you mean {near[0]}? " if near else ""
  raise ConfigError(
    f"config {name!r} does not exist. {meant}There are {', '.join(known)}; a file of "
    "your own is given by its path, which ends in .py"
  )


def new_workdir(config: ConfigDict) -> str:
  """A folder for a run that begins now."""
  return f"runs/{config.name}-{time.strftime('%Y%m%d-%H%M%S')}"


class Overrides(NamedTuple):
  """What is asked for beside a config's own values."""

  config_file: bool  # whether a config is named
  keys: tuple[str, ...]  # that are overridden, such as "evaluation.step"


def save(config: ConfigDict, path: epath.Path) -> None:
  """Writes it, unless the file says the same already."""
  text = json.dumps(config.to_dict(), indent=2) + "\n"
  if path.exists() and path.read_text() == text:
    return
  with written_whole(path) as beside:
    beside.write_text(text)


class Change(NamedTuple):
  """Of a key, between two sessions of a run."""

  key: str
  saved: Any
  given: Any

  def __str__(self) -> str:
    return f"{self.key}: {self.saved} → {self.given}"

  @property
  def effect(self) -> str:
    return _MAY_CHANGE[self.key]


def changes(config: ConfigDict, path: epath.Path) -> list[Change]:
  """What a run goes on with that may change, of the keys that shape it.

  A key that an older version did not save had the default of base.

  Raises:
    ConfigError: the file is damaged, or a key differs that may not.
  """
  saved = keys.BASE | flatten(_read(path))
  saved, given = (
    flatten(json.loads(json.dumps(values))) for values in (saved, flatten(config))
  )
  found = [
    Change(key, saved.get(key, "(none)"), given.get(key, "(none)"))
    for key in sorted(saved | given)
    if saved.get(key) != given.get(key) and key.split(".")[0] not in _FREE_SECTIONS
  ]
  refused = [change for change in found if not _may(change)]
  if refused:
    raise ConfigError(
      f"{path.parent} holds a run with another config; use another --workdir or give "
      "the same values:\n  " + "\n  ".join(map(str, refused))
    )
  return found


def _may(change: Change) -> bool:
  if change.key == "epochs":
    return isinstance(change.saved, int) and change.given > change.saved
  return change.key in _MAY_CHANGE


def _read(path: epath.Path) -> dict[str, Any]:
  """A saved config; raises ConfigError if it is damaged."""
  try:
    values = json.loads(path.read_text())
    if not isinstance(values, dict):
      raise TypeError(f"holds {type(values).__name__} and not keys")
  except (ValueError, TypeError) as error:
    raise ConfigError(
      f"{path} is damaged ({error}): bring back a copy; or remove it and pretrain with "
      "the same config and flags as before, which it then holds again"
    ) from error
  return values


WHOLE_CONFIG = Overrides(config_file=True, keys=())


def restore_into(
  config: ConfigDict, path: epath.Path, overrides: Overrides = WHOLE_CONFIG
) -> ConfigDict:
  """The saved config of a run, with what may differ when it is looked at again.

  That are the free sections, if a config was named, and overrides of them, of `data`
  and of the evaluation crop. Keys that an older version did not save have this
  config's values.

  Raises:
    ConfigError: an override of what the run was trained with, or a damaged file.
  """
  saved = ConfigDict(_read(path))
  _fill(saved, config)
  if overrides.config_file:
    for section in _FREE_SECTIONS:
      if section != "checkpoint":  # what was kept, and by which figure, is a fact
        saved[section] = config[section]
  for key in overrides.keys:
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
