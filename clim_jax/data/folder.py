"""Image folders: the first folder below a split is the class, at whatever depth."""

import collections
import os
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from clim_jax.data.formats import EXTENSIONS, EXTRAS
from clim_jax.data.source import NO_LABEL

# Files with many images in each.
_PACKED = re.compile(r"\.(parquet|arrow|tar|tgz|gz|tfrecord|array_record)\b")
# What systems leave in folders, besides names that begin with a dot.
_LEFT_BEHIND = (
  *("__macosx", "@eadir", "$recycle.bin", "#recycle", "lost+found"),
  *("system volume information", "thumbs.db", "ehthumbs.db"),
  *("desktop.ini", "picasa.ini"),
)


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
  if odd := [parts[-1] for parts in found if not _is_utf8("/".join(parts))]:
    raise ValueError(
      f"{len(odd)} names in {root!r} are not UTF-8, such as {os.fsencode(odd[0])!r}: "
      "rename them, `convmv -r -f latin1 -t utf8 --notest FOLDER` does it"
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


def _is_utf8(name: str) -> bool:
  try:
    return bool(name.encode())
  except UnicodeEncodeError:  # bytes that are no UTF-8 become lone surrogates
    return False


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


def set_in(root: str, asked: str, usual: tuple[str, ...]) -> str:
  """The folder that has the part asked for: `root`, or else the only one in it.

  Archives unpack into a folder of their own name.
  """
  if not tf.io.gfile.isdir(root) or part_of(root, asked, usual):
    return root
  inner = [
    tf.io.gfile.join(root, name)
    for name, is_folder in _entries(root)
    if is_folder and not _is_left_behind(name)
  ]
  having = [folder for folder in inner if part_of(folder, asked, usual)]
  return having[0] if len(having) == 1 else root


def warnings(listing: Listing, parts: Iterable[str]) -> tuple[str, ...]:
  """What labels will not tell, a sentence each; `parts` are usual names of parts."""
  found = []
  if listing.labels is not None and len(listing.classes) == 1:
    found.append(
      f"all images are of one class, {listing.classes[0]}: an evaluation tells nothing"
    )
  inner = [path for path in listing.paths if _parent(path) in parts]
  if listing.labels is not None and inner:
    found.append(
      f"{len(inner)} images lie in folders called {_parent(inner[0])} inside the "
      "classes, and are trained on as all others; classes belong into the parts: "
      "ROOT/train/CLASS and ROOT/test/CLASS"
    )
  return tuple(found)


def _parent(path: str) -> str:
  return os.path.basename(os.path.dirname(path)).lower()


def facts(
  root: str, listing: Listing, *, classes_are_known: bool = False
) -> tuple[str, ...]:
  """What the layout was taken for, a sentence each; classes unless they are known."""
  found, labels = [], listing.labels
  if labels is not None and not classes_are_known:
    names = ", ".join(listing.classes[:5]) + ", …" * (len(listing.classes) > 5)
    taken = f"the {len(listing.classes)} folders in {root} are taken for classes"
    if len(listing.classes) == 1:
      taken = f"the only folder in {root} is taken for a class"
    found.append(f"{taken}: {names}; if they are none, set data.labels=none")
  if labels is not None and (strays := int(np.sum(labels == NO_LABEL))):
    found.append(
      f"{strays} of the {len(labels)} images lie beside the folders in {root} and "
      "have no label: training sees them, evaluation leaves them out"
    )
  if listing.passed_over:
    found.append(f"passed over in {root}: {_counts(listing.passed_over)}")
  return tuple(found)


def _counts(passed_over: dict[str, int]) -> str:
  told = ", ".join(
    f"{n} {'file' if n == 1 else 'files'} {extension}"
    for extension, n in sorted(passed_over.items(), key=lambda item: (-item[1], item))
  )
  how = {EXTRAS[extension] for extension in passed_over if extension in EXTRAS}
  return told + "".join(f" (read after `{command}`)" for command in how)


def _files(
  folder: str, parts: tuple[str, ...], around: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
  """Files below a folder, each as the names that lead to it from where it began.

  `around` are the real paths of the folders on the way.
  """
  around = (*around, _real(folder))
  for name, is_folder in _entries(folder):
    if _is_left_behind(name):
      continue
    if not is_folder:
      yield (*parts, name)
      continue
    inner = tf.io.gfile.join(folder, name)
    # A link to a folder that one is in would have no end.
    is_link = os.path.islink(inner)
    if not (is_link and any(path.startswith(_real(inner)) for path in around)):
      yield from _files(inner, (*parts, name), around)


def _is_left_behind(name: str) -> bool:
  return name.startswith(".") or name.lower() in _LEFT_BEHIND


def _real(folder: str) -> str:
  return os.path.realpath(folder) + os.sep


def _entries(folder: str) -> list[tuple[str, bool]]:
  """Names in a folder and which are folders, without a request for each."""
  if "://" in folder:
    names = tf.io.gfile.listdir(folder)  # of a bucket, folders end in "/"
    return [(name.rstrip("/"), name.endswith("/")) for name in names]
  with os.scandir(folder) as entries:
    return [(entry.name, entry.is_dir()) for entry in entries]
