"""What can be read: arrays in memory, image folders, TFDS builds."""

import dataclasses
import os

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

from clim_jax.data import folder, tfds_source
from clim_jax.data.arrays import array_source, read_npz
from clim_jax.data.depth import white_of
from clim_jax.data.exclusion import Exclusion, leave_out
from clim_jax.data.label_file import read_labels
from clim_jax.data.source import (
  NO_LABEL,
  About,
  ArraySource,
  EncodedSource,
  Source,
  hold_out,
)

# What the parts of a set are usually called, in lower case.
_TRAIN_NAMES = ("train", "training")
_TEST_NAMES = ("test", "testing", "val", "valid", "validation", "dev", "eval")


def load_source(
  kind: str,
  *,
  path: str,
  test_path: str,
  tfds_name: str,
  train_split: str,
  test_split: str,
  test_fraction: float,
  test_labels: str = "",
  labels: str = "auto",
  on_bad_image: str = "raise",
  white_level: int = 0,
  exclude: Exclusion | None = None,
) -> tuple[Source, Source | None]:
  """The training and the test images.

  Args:
    kind: "digits" (scikit-learn's, in memory), "npz", "folder" or "tfds".
    path: npz: the training file; folder: the root; tfds: its data directory, or
      "" for TFDS's own default.
    test_path: npz: the test file, or "".
    tfds_name: tfds: name of the builder.
    train_split, test_split: names of splits (tfds) or sub-folders (folder); a folder
      that has other usual names for them is read by those.
    test_fraction: held out of labelled training images, by class, if the source
      has no test images of its own. 0 holds out none.
    test_labels: folder: a file of labels for test images without class folders, or "".
    labels: "auto": where there are some; "none": no labels, and no test images.
    on_bad_image: "raise", or "skip": another image's pixels are seen in its place.
    white_level: folder: of images of 16 bits, the value shown as white; 0: all bits,
      and refused where a sample reaches far less.
    exclude: images that are left out, before any are held out.

  Returns:
    Training and test source; the test source is None where there is none. What a
    person should hear of them is in their `about`.
  """
  test: Source | None = None
  if kind == "digits":
    if path:
      raise ValueError(
        "data.source=digits brings its own images; set data.source=folder, npz or tfds"
      )
    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    train = array_source(pixels, digits.target, "digits")
  elif kind == "npz":
    train, test = _array_sources(path, test_path, test_split)
  elif kind == "folder":
    wants_labels = labels != "none"
    train, test = _folder_sources(
      path, train_split, test_split, test_labels, wants_labels, white_level
    )
  elif kind == "tfds":
    train = EncodedSource(*tfds_source.open_split(tfds_name, train_split, path))
    if test_split:
      test = EncodedSource(*tfds_source.open_split(tfds_name, test_split, path))
      test = _said_of(test, f"its own, {test_split}")
  else:
    kinds = "digits, npz, folder, tfds"
    raise ValueError(f"data.source {kind!r} must be one of {kinds}")
  if labels == "none":
    train, test, test_fraction = train.without_labels(), None, 0.0
  if isinstance(train, EncodedSource):
    train = dataclasses.replace(train, on_bad_image=on_bad_image)
  if isinstance(test, EncodedSource):
    test = dataclasses.replace(test, on_bad_image=on_bad_image)
  own = exclude is not None and exclude.root in ("", path)
  train, test = leave_out(exclude, train, test, own=own)
  if test is None and test_fraction > 0 and _has_labels(train):
    images = train.num_images
    train, test = hold_out(train, test_fraction)
    train = _said_of(
      train,
      facts=(
        f"no test images of its own: {test.num_images} of the {images} images are held "
        "out for evaluation (data.test_fraction; 0 trains on all)",
      ),
    )
  return train, test


def folder_source(
  root: str,
  *,
  on_bad_image: str = "raise",
  white_level: int = 0,
  exclude: Exclusion | None = None,
) -> tuple[EncodedSource, list[str]]:
  """All images of a folder and of the folders in it, and their paths in the same order.

  Raises:
    FileNotFoundError: there is no such folder, or no image in it.
  """
  listing = folder.list_images(root)
  source = dataclasses.replace(_files(listing, white_level), on_bad_image=on_bad_image)
  told = [fact for fact in folder.facts(root, listing) if "passed over" in fact]
  own = exclude is not None and exclude.root == root
  (source,) = leave_out(exclude, _said_of(source, facts=tuple(told)), own=own)
  return source, [source.name(image) for image in range(source.num_images)]


def _folder_sources(
  root: str,
  train_split: str,
  test_split: str,
  test_labels: str,
  wants_labels: bool,
  white_level: int,
) -> tuple[EncodedSource, EncodedSource | None]:
  given, root = root, folder.set_in(root, train_split, _TRAIN_NAMES)
  train_part = folder.part_of(root, train_split, _TRAIN_NAMES)
  train_root = tf.io.gfile.join(root, train_part) if train_part else root
  listing = folder.list_images(train_root, whole=given)
  told = folder.facts(train_root, listing)
  if not wants_labels:
    told = tuple(fact for fact in told if "passed over" in fact)
  if root != given:
    told = (f"the set is taken to be {root}, the only one in {given}", *told)
  doubts = ()
  if wants_labels:
    doubts = folder.warnings(listing, _TEST_NAMES)
  train = _said_of(_files(listing, white_level), facts=told, warnings=doubts)
  test_part = folder.part_of(root, test_split, _TEST_NAMES) if train_part else ""
  if not test_part or not wants_labels or listing.labels is None:
    return train, None
  test_root = tf.io.gfile.join(root, test_part)
  if test_labels:
    found = folder.list_images(test_root)
    labels = read_labels(test_labels, found.paths, listing.classes)
    found = found._replace(labels=labels)
  else:
    found = folder.list_images(test_root, listing.classes)
  warnings = ()
  if found.labels is None:
    warnings = (
      f"no evaluation on the {len(found.paths)} images of {test_root}: it has no class "
      f"folders, as {train_root} has. Sort the images into such folders, give "
      "data.test_labels=FILE with a line 'NAME CLASS' for each, or set "
      "data.test_split='' to hold out training images",
    )
  if os.path.realpath(test_root) == os.path.realpath(train_root):
    warnings += (f"the test images of {test_root} are those of training",)
  facts = folder.facts(test_root, found, classes_are_known=True)
  if test_part != test_split:
    facts += (f"test images are those of {test_root} (data.test_split)",)
  return train, _said_of(
    _files(found, white_level), f"its own, {test_part}", facts, warnings
  )


def _array_sources(
  path: str, test_path: str, test_split: str
) -> tuple[ArraySource, ArraySource | None]:
  parts, asked = read_npz(path), (test_split, *_TEST_NAMES) if test_split else ()
  train = next((parts[name] for name in ("train", "") if name in parts), None)
  if train is None:
    raise ValueError(f"{path} has images of {', '.join(parts)}, none to train on")
  train = _called(train, "train")
  if test_path:
    of_tests = read_npz(test_path)
    test = next((of_tests[name] for name in (*asked, "") if name in of_tests), None)
    if test is None:
      raise ValueError(f"{test_path} has images of {', '.join(of_tests)}, none to test")
    if test.labels() is not None and test.class_names != train.class_names:
      raise ValueError(
        f"{path} and {test_path} name other classes: keep both parts in one file, as "
        "train_images, train_labels, test_images, test_labels"
      )
    return train, _said_of(_called(test, "test"), f"its own, {test_path}")
  for name in asked:
    if name in parts:
      fact = f"test images are those called {name} in {path}"
      return train, _said_of(_called(parts[name], "test"), f"its own, {name}", (fact,))
  return train, None


def _called(source: ArraySource, part: str) -> ArraySource:
  return dataclasses.replace(source, called=part)


def _files(listing: folder.Listing, white_level: int) -> EncodedSource:
  table = tf.constant(listing.paths)  # once, not in the graph of each pipeline
  return EncodedSource(
    num_images=len(listing.paths),
    labels=lambda: listing.labels,
    fetch=lambda ids: tf.gather(table, ids),
    load=tf.io.read_file,
    name=lambda image: listing.paths[image],
    class_names=tuple(listing.classes),
    white=white_of(listing.paths, white_level),
  )


def _has_labels(source: Source) -> bool:
  labels = source.labels()
  return labels is not None and bool((labels != NO_LABEL).any())


def _said_of(
  source: Source,
  part: str = "",
  facts: tuple[str, ...] = (),
  warnings: tuple[str, ...] = (),
) -> Source:
  """The source with more in its `about`."""
  old = source.about
  about = About(part or old.part, old.facts + facts, old.warnings + warnings)
  return dataclasses.replace(source, about=about)
