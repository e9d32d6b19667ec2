"""A list of images to leave out: a file of names, written by a check or by hand."""

import dataclasses
import json
import os
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from etils import epath

from clim_jax.data.source import Source

_SHOWN = 3  # names in a message


class Exclusion(NamedTuple):
  """Images that no one is to see."""

  file: str
  root: str  # names of files are those below it; "": names are no paths
  names: dict[str, str]  # whole name → as it stands in the file


def read_exclusion(file: str, root: str) -> Exclusion:
  """Reads a file of names, one a line.

  Lines that begin with "#" are comments. A name that begins or ends oddly, or has a
  line break, stands in quotes, as JSON has it.

  Args:
    file: of names.
    root: the folder that they begin at; "" where images are no files.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a line in quotes is no JSON.
  """
  if not epath.Path(file).is_file():
    raise FileNotFoundError(f"no file {file!r}; set data.exclude=FILE, or to ''")
  lines = os.fsdecode(epath.Path(file).read_bytes()).split("\n")
  names = {}
  for number, line in enumerate(lines, 1):
    line = line.removesuffix("\r")
    if not line.strip() or line.startswith("#"):
      continue
    try:
      name = json.loads(line) if line.startswith('"') else line
    except ValueError as error:
      raise ValueError(f"{file}, line {number}: {line} is no JSON text") from error
    names[_whole(root, name)] = name
  return Exclusion(file, root, names)


def to_line(name: str) -> str:
  """A name as `read_exclusion` takes it."""
  plain = name == name.strip() and not name.startswith(("#", '"'))
  return name if plain and name.isprintable() else json.dumps(name)


def short_name(root: str, name: str) -> str:
  """The name of an image as it begins at `root`."""
  inside = _whole("", root).rstrip("/") + "/"
  return _whole("", name).removeprefix(inside) if root else name


def leave_out(
  exclusion: Exclusion | None, *sources: Source | None, own: bool = True
) -> tuple[Source | None, ...]:
  """The sources without the images of a list; the first one tells how many they were.

  Args:
    exclusion: the list, if there is one.
    *sources: of one set.
    own: whether the list is for this set, so that all its names should be in it.

  Raises:
    ValueError: no image of a source is left.
  """
  if exclusion is None or not exclusion.names:
    return sources
  left, found, images = [], set(), 0
  for source in sources:
    if source is not None:
      names = [_whole("", source.name(i)) for i in range(source.num_images)]
      out = [name in exclusion.names for name in names]
      found.update(name for name, is_out in zip(names, out, strict=True) if is_out)
      images += len(names)
      if all(out):
        raise ValueError(f"data.exclude={exclusion.file} leaves no image, of {images}")
      source = source.subset(np.flatnonzero(~np.array(out))) if any(out) else source
    left.append(source)
  about, facts, warnings = left[0].about, (), ()
  if found:
    facts = (
      f"left out by data.exclude={exclusion.file}: {len(found)} of {images} images",
    )
  missing = [text for name, text in exclusion.names.items() if name not in found]
  if missing and own:
    warnings = (
      f"{len(missing)} of the {len(exclusion.names)} names of data.exclude="
      f"{exclusion.file} are not among the images{_below(exclusion.root)}: "
      f"{_some(missing)}",
    )
  about = about._replace(facts=about.facts + facts, warnings=about.warnings + warnings)
  left[0] = dataclasses.replace(left[0], about=about)
  return tuple(left)


def _whole(root: str, name: str) -> str:
  return os.path.abspath(os.path.join(root, name))


def _below(root: str) -> str:
  return f" of {root}" if root else ""


def _some(names: Iterable[str]) -> str:
  names = list(names)
  return ", ".join(names[:_SHOWN]) + ", …" * (len(names) > _SHOWN)
