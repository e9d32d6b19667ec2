"""The keys of configs/base.py as a page, read from its source."""

import inspect
import re

from clim_jax.configs import base
from clim_jax.experiment.error import ConfigError
from clim_jax.experiment.keys import BASE, nearest

_SECTION = re.compile(r"  (\w+) = (config|\w+)\.(\w+) = ConfigDict\(\)(?:  # (.*))?")
_KEY = re.compile(r"  (\w+)\.(\w+) = (.+?)(?:  # (.*))?")
_HEAD = (
  "# Set one by --config.KEY=VALUE, a tuple in quotes: --config.views.sides='(64, 48)'"
)
_KEY_WIDTH, _VALUE_WIDTH = 38, 12  # at least; what is longer moves the rest


def key_list(prefix: str = "") -> str:
  """A line for each key with its default and comment; longer comments above it.

  Args:
    prefix: of the keys wanted, whole or of one part: "moco", "temp", "knn.temp".

  Raises:
    ConfigError: no key begins so.
  """
  prefix = prefix.removeprefix("--").removeprefix("config.").rstrip(".")
  lines = []
  for key, default, above, beside in _entries():
    if key.startswith(prefix) or f".{prefix}" in key:
      lines += [f"  # {line}" for line in above]
      comment = f"  # {beside}" * bool(beside)
      line = f"{key:<{_KEY_WIDTH}} {default:<{_VALUE_WIDTH}}{comment}"
      lines.append(line.rstrip())
  if not lines:
    like = nearest(prefix)
    raise ConfigError(f"no key begins with {prefix!r}; the nearest is {like}")
  return "\n".join([_HEAD, *lines])


def _entries() -> list[tuple[str, str, list[str], str]]:
  """Key, default as text, comments above and beside, in the order of the source."""
  path_of, entries, above = {"config": ""}, [], []
  for line in inspect.getsource(base.get_config).splitlines():
    section, key = _SECTION.fullmatch(line), _KEY.fullmatch(line)
    if section:
      variable, parent, name, beside = section.groups()
      path_of[variable] = f"{path_of[parent]}{name}."
      above += [beside] if beside else []
      continue  # what is said of a section stands above its first key
    if key and key[1] in path_of and path_of[key[1]] + key[2] in BASE:
      entries.append((path_of[key[1]] + key[2], key[3], above, key[4] or ""))
    is_comment = line.lstrip().startswith("# ")
    above = [*above, line.strip()[2:]] if is_comment else []
  return entries
