"""Image folders and TFDS builds, opened."""

import dataclasses
import os

import tensorflow as tf

from clim_jax.data import folder, tfds_source
from clim_jax.data.arrays import TEST_NAMES
from clim_jax.data.depth import white_of
from clim_jax.data.encoded import EncodedSource, as_os_errors
from clim_jax.data.label_file import read_labels
from clim_jax.data.source import said_of

_TRAIN_NAMES = ("train", "training")  # what this part is usually called, in lower case


@as_os_errors()
def all_of_folder(
  root: str, *, on_bad_image: str, white_level: int, max_pixels: int
) -> EncodedSource:
  """See `sources.folder_source`."""
  listing = folder.list_images(root)
  source = _files(listing, white_level, max_pixels, on_bad_image)
  told = [fact for fact in folder.facts(root, listing) if "passed over" in fact]
  return said_of(source, facts=tuple(told))


@as_os_errors()
def of_folder(
  root: str,
  train_split: str,
  test_split: str,
  test_labels: str,
  *,
  wants_labels: bool,
  on_bad_image: str,
  white_level: int,
  max_pixels: int,
) -> tuple[EncodedSource, EncodedSource | None]:
  """Training and test images of a folder; see `sources.load_source`."""
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
    doubts = folder.warnings(listing, TEST_NAMES)
  train = said_of(
    _files(listing, white_level, max_pixels, on_bad_image),
    facts=told,
    warnings=doubts,
  )
  test_part = folder.part_of(root, test_split, TEST_NAMES) if train_part else ""
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
  return train, said_of(
    _files(found, white_level, max_pixels, on_bad_image),
    f"its own, {test_part}",
    facts,
    warnings,
  )


@as_os_errors()
def of_tfds(
  name: str,
  train_split: str,
  test_split: str,
  data_dir: str,
  *,
  on_bad_image: str,
  max_pixels: int,
) -> tuple[EncodedSource, EncodedSource | None]:
  """Training and test images of a TFDS build; see `sources.load_source`."""

  def split(expression: str) -> EncodedSource:
    source = EncodedSource(*tfds_source.open_split(name, expression, data_dir))
    return dataclasses.replace(source, on_bad_image=on_bad_image, max_pixels=max_pixels)

  test = said_of(split(test_split), f"its own, {test_split}") if test_split else None
  return split(train_split), test


def _files(
  listing: folder.Listing, white_level: int, max_pixels: int, on_bad_image: str
) -> EncodedSource:
  table = tf.constant(listing.paths)  # once, not in the graph of each pipeline
  return EncodedSource(
    num_images=len(listing.paths),
    labels=lambda: listing.labels,
    fetch=lambda ids: tf.gather(table, ids),
    load=tf.io.read_file,
    name=lambda image: listing.paths[image],
    class_names=tuple(listing.classes),
    white=white_of(listing.paths, white_level, max_pixels),
    max_pixels=max_pixels,
    on_bad_image=on_bad_image,
  )
