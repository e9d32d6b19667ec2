"""WebDataset's tar files: the members of an example share the name before the dot."""

import functools
import json
import os
import tarfile
import zlib
from collections.abc import Iterator

from clim_jax.data.formats import EXTENSIONS
from clim_jax.sets.pack import (
  LABELS,
  Pack,
  PackError,
  Part,
  Record,
  files_below,
  part_of,
)

_SUFFIXES = (".tar", ".tar.gz", ".tgz")


def open_tars(root: str) -> Pack | None:
  """A folder of tar files, or one; None if there is none.

  An example's label is the text of its member `.cls`, or of a key such as `label` in
  its member `.json`. Names of members lead to no file: only what is in them is read.
  """
  files: dict[str, list[str]] = {}
  for path in files_below(root, *_SUFFIXES):
    files.setdefault(part_of(root, path), []).append(path)
  if not files:
    return None
  parts = {
    part: Part(functools.partial(_records, paths), None)
    for part, paths in files.items()
  }
  return Pack(parts, "the members .cls or .json")


def _records(paths: list[str]) -> Iterator[Record]:
  for path in paths:
    for example in _whole_examples(path):
      label = _label(example)
      for suffix, content in example.items():
        if "." + suffix.rpartition(".")[2] in EXTENSIONS:
          yield Record(content, label)
          break  # further images of an example are masks, depths, …


def _whole_examples(path: str) -> Iterator[dict[str, bytes]]:
  try:
    yield from _examples(path)
  except (tarfile.TarError, EOFError, zlib.error) as error:
    raise PackError(f"{path} is damaged or no tar file: {error}") from error


def _examples(path: str) -> Iterator[dict[str, bytes]]:
  """The members of each example, by what stands after the first dot of their names."""
  key, example = None, {}
  with tarfile.open(path, "r|*") as members:
    for member in members:
      folder, name = os.path.split(member.name)
      first, _, suffix = name.partition(".")
      if not member.isfile() or not first:  # a link, a folder, a hidden file
        continue
      if (folder, first) != key:
        if example:
          yield example
        key, example = (folder, first), {}
      example[suffix.lower()] = members.extractfile(member).read()
  if example:
    yield example


def _label(example: dict[str, bytes]) -> str:
  if "cls" in example:
    return example["cls"].decode().strip()
  try:
    values = json.loads(example.get("json", b"{}"))
  except ValueError:
    return ""
  if not isinstance(values, dict):
    return ""
  found = (values[name] for name in LABELS if isinstance(values.get(name), int | str))
  return str(next(found, ""))
