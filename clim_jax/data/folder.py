"""Image folders: the first folder below a split is the class, at whatever depth."""

import collections
import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from clim_jax.data.formats import EXTENSIONS
from clim_jax.data.source import NO_LABEL

# Files with many images in each.
_PACKED = re.compile(r"\.(parquet|arrow|tar|tgz|gz|tfrecord|array_record)\b")
# What systems leave in folders, besides names that begin with a dot.
_LEFT_BEHIND = ("__macosx", "@eadir", "$recycle.bin", "thumbs.db", "desktop.ini")


class Listing(NamedTuple):
  """The images of a folder, in sorted order."""

  paths: list[str]
  labels: np.ndarray | None  # [N] int64, or NO_LABEL; None: no folders in it
  classes: list[str]
  passed_over: dict[str, int]  # extension → files of no format that can be read


def list_images(
  root: str, classes: list[str] | None = None, *, whole: str = ""
) -> Listing:
  """Finds the images below a folder; local or `gs://`.

  Args:
    root: the folder. An image's class is the first folder below it; images beside the
      class folders have none.
    classes: class names whose order gives the labels; None takes the folders'.
    whole: the set that the folder is a part of, for messages.

  Raises:
    FileNotFoundError: there is no such folder, or no image in it.
    ValueError: a class folder that `classes` does not name.
  """
  if not tf.io.gfile.isdir(root):
    if tf.io.gfile.exists(root):
      raise FileNotFoundError(
        f"{root!r} is a file, no folder{_unpacking(root, [root])}"
      )
    raise FileNotFoundError(f"image folder {root!r} does not exist")
  found, passed_over = [], collections.Counter()
  for parts in _files(root, ()):
    extension = os.path.splitext(parts[-1])[1].lower()
    if extension in EXTENSIONS:
      found.append(parts)
    else:
      passed_over[extension or "without extension"] += 1
  if not found:
    others = f", only {_counts(passed_over)}" if passed_over else ""
    raise FileNotFoundError(
      f"no image in {root!r}{others}: read are {' '.join(EXTENSIONS)}"
      f"{_unpacking(whole or root, passed_over)}"
    )
  found.sort()
  paths = [tf.io.gfile.join(root, *parts) for parts in found]
  own = sorted({parts[0] for parts in found if len(parts) > 1})
  if not own:
    return Listing(paths, None, [], passed_over)
  classes = own if classes is None else classes
  if unknown := sorted(set(own) - set(classes)):
    raise ValueError(
      f"{root!r} has classes {unknown} that training has not: {classes}; rename or "
      "remove them, give data.test_labels=FILE, or set data.test_split to ''"
    )
  place = {name: label for label, name in enumerate(classes)}
  labels = [place[p[0]] if len(p) > 1 else NO_LABEL for p in found]
  return Listing(paths, np.array(labels, np.int64), classes, passed_over)


def _unpacking(root: str, names: Iterable[str]) -> str:
  """How to get at images that are packed many to a file, if these names say so."""
  if not any(_PACKED.search(name) for name in names):
    return ""
  how = f"`clim convert --input={root} --output=FOLDER`"
  return f"; images packed many to a file are written as files of their own by {how}"


def part_of(root: str, asked: str, usual: tuple[str, ...]) -> str:
  """The folder in `root` that is a part, as asked or by a usual name; or ""."""
  if not asked or not tf.io.gfile.isdir(root):
    return ""
  if tf.io.gfile.isdir(tf.io.gfile.join(root, asked)):
    return asked
  folders = {name.lower(): name for name, is_folder in _entries(root) if is_folder}
  return next((folders[name] for name in usual if name in folders), "")


def facts(root: str, listing: Listing) -> tuple[str, ...]:
  """What the layout was taken for, a sentence each."""
  found, labels = [], listing.labels
  if labels is not None:
    names = ", ".join(listing.classes[:5]) + ", …" * (len(listing.classes) > 5)
    found.append(
      f"the {len(listing.classes)} folders in {root} are taken for classes: {names}; "
      "if they are none, set data.labels=none"
    )
    if strays := int(np.sum(labels == NO_LABEL)):
      found.append(
        f"{strays} of the {len(labels)} images lie beside the folders in {root} and "
        "have no label: training sees them, evaluation leaves them out"
      )
  if listing.passed_over:
    found.append(f"passed over in {root}: {_counts(listing.passed_over)}")
  return tuple(found)


def _counts(passed_over: dict[str, int]) -> str:
  return ", ".join(
    f"{n} {'file' if n == 1 else 'files'} {extension}"
    for extension, n in sorted(passed_over.items(), key=lambda item: (-item[1], item))
  )


def _files(folder: str, parts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
  """Files below a folder, each as the names that lead to it from where it began."""
  for name, is_folder in _entries(folder):
    if name.startswith(".") or name.lower() in _LEFT_BEHIND:
      continue
    if not is_folder:
      yield (*parts, name)
      continue
    inner = tf.io.gfile.join(folder, name)
    # A link to a folder around itself would have no end.
    within = os.path.realpath(folder) + os.sep
    if not (os.path.islink(inner) and within.startswith(_real(inner))):
      yield from _files(inner, (*parts, name))


def _real(folder: str) -> str:
  return os.path.realpath(folder) + os.sep


def _entries(folder: str) -> list[tuple[str, bool]]:
  """Names in a folder and which are folders, without a request for each."""
  if "://" in folder:
    names = tf.io.gfile.listdir(folder)  # of a bucket, folders end in "/"
    return [(name.rstrip("/"), name.endswith("/")) for name in names]
  with os.scandir(folder) as entries:
    return [(entry.name, entry.is_dir()) for entry in entries]
