"""Images packed many to a file, as other libraries keep them: what a reader gives."""

import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

# Words in the names of files and folders, as the Hugging Face hub reads them.
_PARTS = {
  "train": ("train", "training"),
  "test": ("test", "testing", "eval", "evaluation"),
  "val": ("val", "valid", "validation", "dev"),
}
# What a label is called, the likeliest first.
LABELS = ("label", "labels", "fine_label", "target", "class", "cls", "y")


class Record(NamedTuple):
  image: bytes  # of an image file
  label: str  # "": none


class Part(NamedTuple):
  """Such as train or test."""

  records: Callable[[], Iterator[Record]]
  count: int | None  # None: not known before they are read


class Pack(NamedTuple):
  """A packed set, opened."""

  parts: dict[str, Part]
  labels: str  # where labels are from, in words; "": there are none


class PackError(ValueError):
  """A set that cannot be read; the message says why and what can be done."""


def part_of(root: str, file: str) -> str:
  """The part that a file belongs to, by a word in its path below `root`."""
  for name in reversed(os.path.relpath(file, root).split(os.sep)):
    for word in re.split(r"[^a-z]+", name.lower()):
      for part, words in _PARTS.items():
        if word in words:
          return part
  return "train"


def files_below(root: str, *suffixes: str) -> list[str]:
  """Files whose names end so, in order; links out of the folder are not followed."""
  if os.path.isfile(root):
    return [root] if root.endswith(suffixes) else []
  return sorted(
    os.path.join(folder, name)
    for folder, inner, names in os.walk(root)
    for name in names
    if name.endswith(suffixes) and not name.startswith(".")
  )
