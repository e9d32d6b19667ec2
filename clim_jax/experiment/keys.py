"""The keys of configs/base.py, and what each may hold: one place for all who set one.

A value comes as text from a command line, from Python, or from a config file.
"""

import ast
import difflib
import math
import numbers
import os
import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from clim_jax.configs import base
from clim_jax.experiment.error import ConfigError

_TOO_LARGE = 2**31  # whole numbers become int32
_KINDS = {
  bool: "True or False",
  int: f"a whole number below {_TOO_LARGE}",
  float: "a number",
  str: "text",
}
# Tuples as long as in base; all others hold any number of values.
_FIXED_LENGTH = (
  "data.pixel_mean",
  "data.pixel_std",
  "views.aspect_ratio",
  "augment.blur_sigma",
  "evaluation.crop_scale",
)
# A path may stand after a kind, a name or another path: "npz:~/a.npz,~/b.npz".
_HOME = re.compile(r"(?:^|(?<=[:,=]))~[^/,@]*")


def flatten(config: ConfigDict | dict, prefix: str = "") -> dict[str, Any]:
  """Nested keys joined by dots."""
  flat: dict[str, Any] = {}
  for key, value in config.items():
    if isinstance(value, ConfigDict | dict):
      flat |= flatten(value, f"{prefix}{key}.")
    else:
      flat[prefix + key] = value
  return flat


BASE = flatten(base.get_config())  # every key with its default
SECTIONS = {key[:end] for key in BASE for end in range(len(key)) if key[end] == "."}


def nearest(name: str) -> str:
  """The key that an unknown one is most like; its last part counts first."""
  last_part = {key: key.rsplit(".", 1)[-1] for key in BASE}
  asked = name.rsplit(".", 1)[-1]
  close = difflib.get_close_matches(asked, last_part.values(), n=1, cutoff=0.75)
  like = [key for key in BASE if not close or last_part[key] == close[0]]
  return difflib.get_close_matches(name, like, n=1, cutoff=0.0)[0]


def with_flags(message: str) -> str:
  """A message with every key in it as the flag that sets it."""
  known = "|".join(re.escape(key) for key in sorted(BASE, reverse=True))
  # A key without a section is a plain word, but where a message begins.
  place = r"(?<![\w./'-])(?=\w+\.\w)|^(?=\w+ )"
  return re.sub(rf"(?:{place})({known})(?!\w|\.\w)", r"--config.\1", message)


def check_key(key: str) -> None:
  """Raises ConfigError for a key that base has not."""
  if key in SECTIONS:
    some = ", ".join([name for name in BASE if name.startswith(f"{key}.")][:3])
    raise ConfigError(f"{key!r} is a section, not a key; in it are {some}, …")
  if key not in BASE:
    like = nearest(key)
    raise ConfigError(
      f"the config has no key {key!r}; the nearest is {like} (default {BASE[like]!r})"
    )


def from_text(key: str, text: str) -> Any:
  """The value that a command line means by `text`.

  A tuple may be said by its values alone: `knn,linear` is `('knn', 'linear')`, and `32`
  is `(32,)`. Text with paths in it, which may hold commas, is one value.

  Raises:
    ConfigError: there is no such key, or it cannot hold this.
  """
  check_key(key)
  like = BASE[key]
  if isinstance(like, str):
    return fitted(key, text)
  if _holds_text(like) and not text.strip().startswith(("(", "[", "'", '"')):
    words = text.split(",") if like else [text]
    return fitted(key, tuple(word.strip() for word in words if word.strip()))
  if text.lower() in ("true", "false"):
    text = text.capitalize()
  try:
    value = ast.literal_eval(text.strip())
  except (ValueError, SyntaxError):
    value = text
  return fitted(key, value)


def fitted(key: str, value: Any) -> Any:
  """The value as base has it: its type, length and, of paths, without a "~".

  Raises:
    ConfigError: there is no such key, or it cannot hold this.
  """
  check_key(key)
  like = BASE[key]
  try:
    if not isinstance(like, tuple):
      return _cast(value, like)
    values = value if isinstance(value, tuple | list) else (value,)
    if values and like and isinstance(like[0], tuple):  # of pairs
      values = values if isinstance(values[0], tuple | list) else (values,)
      return tuple(_cast_all(pair, like[0], len(like[0])) for pair in values)
    length = len(like) if key in _FIXED_LENGTH else len(values)
    return _cast_all(values, like or ("",), length)
  except TypeError as error:
    kind = _KINDS.get(type(like)) or _tuple_kind(key, like)
    raise ConfigError(f"{key} {value!r} must be {kind}") from error


def override(config: ConfigDict, values: Mapping[str, Any]) -> None:
  """Sets keys of a config, in place.

  Raises:
    ConfigError: there is no such key, or it cannot hold this.
  """
  for key, value in values.items():
    value = fitted(key, value)
    *sections, name = key.split(".")
    target = config
    for section in sections:
      target = target[section]
    target[name] = value


def conform(config: ConfigDict) -> None:
  """Checks that a config has the keys of base and fits its values to them, in place.

  Raises:
    ConfigError: a key is unknown or missing, or cannot hold its value.
  """
  values = flatten(config)
  for key in values:
    check_key(key)
  missing = [key for key in BASE if key not in values]
  if missing:
    raise ConfigError(
      f"the config lacks {', '.join(missing[:3])}: begin with base.get_config() of "
      "clim_jax.configs and change what differs"
    )
  override(config, values)


def _cast(value: Any, like: Any) -> Any:
  """Raises TypeError where value is of another kind; bool counts as no number."""
  if isinstance(like, str) and isinstance(value, str | os.PathLike):
    return _HOME.sub(lambda home: os.path.expanduser(home[0]), os.fspath(value))
  if isinstance(like, bool) == isinstance(value, bool):
    if isinstance(like, bool):
      return value
    if isinstance(like, int) and isinstance(value, numbers.Integral):
      if abs(value) >= _TOO_LARGE:
        raise TypeError
      return int(value)
    is_number = isinstance(value, numbers.Real) and math.isfinite(value)
    if isinstance(like, float) and is_number:
      return float(value)
  raise TypeError


def _cast_all(values: Any, like: tuple, length: int) -> tuple:
  if not isinstance(values, tuple | list) or len(values) != length:
    raise TypeError
  return tuple(_cast(value, like[0]) for value in values)


def _holds_text(like: Any) -> bool:
  return isinstance(like, tuple) and all(isinstance(value, str) for value in like)


def _tuple_kind(key: str, like: tuple) -> str:
  if not like:
    return "text, or a tuple of it such as ('a', 'b')"
  count = f"{len(like)} values" if key in _FIXED_LENGTH else "a tuple"
  return f"{count} such as {like!r}"
