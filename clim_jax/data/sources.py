"""What can be read: arrays in memory, image folders, TFDS builds."""

import dataclasses

import numpy as np
from sklearn.datasets import load_digits

from clim_jax.data.arrays import TEST_NAMES, array_source, read_npz
from clim_jax.data.exclusion import Exclusion, leave_out
from clim_jax.data.size import MOST_PIXELS
from clim_jax.data.source import NO_LABEL, ArraySource, Source, hold_out, said_of


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
  max_pixels: int = MOST_PIXELS,
  crops: str = "auto",
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
    max_pixels: an image of more is bad; not of arrays, which are in memory.
    crops: where those of arrays are cut, "auto", "device" or "host".
    exclude: images that are left out, before any are held out.

  Returns:
    Training and test source; the test source is None where there is none. What a
    person should hear of them is in their `about`.
  """
  test: Source | None = None
  if kind == "digits":
    if path:
      raise ValueError(
        "data.source=digits brings its own images; set data.source=folder, npz or "
        "tfds, or take --config=own_images:NUM_IMAGES for a folder"
      )
    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    train = array_source(pixels, digits.target, "digits")
  elif kind == "npz":
    train, test = _array_sources(path, test_path, test_split)
  elif kind == "folder":
    from clim_jax.data import encoded_sources  # TensorFlow, which arrays do without

    train, test = encoded_sources.of_folder(
      path,
      train_split,
      test_split,
      test_labels,
      wants_labels=labels != "none",
      on_bad_image=on_bad_image,
      white_level=white_level,
      max_pixels=max_pixels,
    )
  elif kind == "tfds":
    from clim_jax.data import encoded_sources

    train, test = encoded_sources.of_tfds(
      tfds_name,
      train_split,
      test_split,
      path,
      on_bad_image=on_bad_image,
      max_pixels=max_pixels,
    )
  else:
    kinds = "digits, npz, folder, tfds"
    raise ValueError(f"data.source {kind!r} must be one of {kinds}")
  if labels == "none":
    train, test, test_fraction = train.without_labels(), None, 0.0
  train, test = (
    dataclasses.replace(part, crops=crops) if isinstance(part, ArraySource) else part
    for part in (train, test)
  )
  own = exclude is not None and exclude.root in ("", path)
  train, test = leave_out(exclude, train, test, own=own)
  if test is None and test_fraction > 0 and _has_labels(train):
    images = train.num_images
    train, test = hold_out(train, test_fraction)
    train = said_of(
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
  max_pixels: int = MOST_PIXELS,
  exclude: Exclusion | None = None,
) -> tuple[Source, list[str]]:
  """All images of a folder and of the folders in it, and their paths in the same order.

  Raises:
    FileNotFoundError: there is no such folder, or no image in it.
  """
  from clim_jax.data import encoded_sources

  source = encoded_sources.all_of_folder(
    root, on_bad_image=on_bad_image, white_level=white_level, max_pixels=max_pixels
  )
  own = exclude is not None and exclude.root == root
  (source,) = leave_out(exclude, source, own=own)
  return source, [source.name(image) for image in range(source.num_images)]


def _array_sources(
  path: str, test_path: str, test_split: str
) -> tuple[ArraySource, ArraySource | None]:
  parts, asked = read_npz(path), (test_split, *TEST_NAMES) if test_split else ()
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
    return train, said_of(_called(test, "test"), f"its own, {test_path}")
  for name in asked:
    if name in parts:
      fact = f"test images are those called {name} in {path}"
      return train, said_of(_called(parts[name], "test"), f"its own, {name}", (fact,))
  return train, None


def _called(source: ArraySource, part: str) -> ArraySource:
  return dataclasses.replace(source, called=part)


def _has_labels(source: Source) -> bool:
  labels = source.labels()
  return labels is not None and bool((labels != NO_LABEL).any())
