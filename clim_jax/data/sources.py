"""What can be read: arrays in memory, image folders, TFDS builds."""

import dataclasses
import functools
import zipfile
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from absl import logging
from sklearn.datasets import load_digits

from clim_jax.data import folder, tfds_source
from clim_jax.data.split import split_rows

ReadError = tf.errors.OpError  # what reading a missing or forbidden file raises


class BadImageError(ValueError):
  """An image that cannot be decoded; the message names it."""


@dataclasses.dataclass(frozen=True)
class ArraySource:
  """Equally large images in memory."""

  images: np.ndarray  # [N, H, W, 3] uint8
  known_labels: np.ndarray | None  # [N] int64

  @property
  def num_images(self) -> int:
    return len(self.images)

  @property
  def stand_ins(self) -> dict[int, int]:
    """None: an array holds no bad image."""
    return {}

  def labels(self) -> np.ndarray | None:
    return self.known_labels

  def name(self, image: int) -> str:
    return f"image {image}"

  def subset(self, ids: np.ndarray) -> "ArraySource":
    labels = None if self.known_labels is None else self.known_labels[ids]
    return ArraySource(self.images[ids], labels)


@dataclasses.dataclass(frozen=True)
class EncodedSource:
  """Images as JPEG or PNG bytes, of any size, read when they are needed."""

  num_images: int
  labels: Callable[[], np.ndarray | None]  # may have to read the data once
  fetch: Callable[[tf.Tensor], tf.Tensor]  # ids of a batch → strings of its shape
  load: Callable[[tf.Tensor], tf.Tensor]  # one such string → its bytes
  name: Callable[[int], str]  # for messages
  on_bad_image: str = "raise"  # or "skip"
  # Images found bad, and those whose pixels are seen in their place.
  stand_ins: dict[int, int] = dataclasses.field(default_factory=dict)

  def subset(self, ids: np.ndarray) -> "EncodedSource":
    labels = functools.cache(
      lambda: None if self.labels() is None else self.labels()[ids]
    )
    table = tf.constant(ids)  # once, not in the graph of each pipeline
    return EncodedSource(
      num_images=len(ids),
      labels=labels,
      fetch=lambda rows: self.fetch(tf.gather(table, rows)),
      load=self.load,
      name=lambda row: self.name(int(ids[row])),
      on_bad_image=self.on_bad_image,
    )

  def replace_bad(self, ids: np.ndarray) -> bool:
    """Finds stand-ins for those of `ids` that cannot be decoded; whether there are any.

    The stand-in is the next image in order that can be decoded. It lends its pixels
    alone, so it depends neither on the step nor on the number of processes.

    Raises:
      BadImageError: there is one, and `on_bad_image` is "raise" or no image is good.
    """
    bad = [image for image in np.unique(ids).tolist() if self._fault(image) is not None]
    for image in bad:
      fault = self._fault(image)
      if self.on_bad_image == "raise":
        raise BadImageError(
          f"cannot decode {self.name(image)}: {fault}; repair or remove the file, or "
          "set data.on_bad_image=skip"
        )
      later = (
        (image + offset) % self.num_images for offset in range(1, self.num_images)
      )
      stand_in = next((other for other in later if self._fault(other) is None), None)
      if stand_in is None:
        raise BadImageError(f"no image can be decoded, nor {self.name(image)}: {fault}")
      self.stand_ins[image] = stand_in
      logging.warning(
        "cannot decode %s: %s; %s is seen in its place (bad images so far: %d)",
        self.name(image),
        fault,
        self.name(stand_in),
        len(self.stand_ins),
      )
    return bool(bad)

  def _fault(self, image: int) -> str | None:
    """Why an image cannot be decoded; None if it can."""
    try:
      encoded = self.load(self.fetch(tf.constant([image], tf.int64))[0])
      tf.io.decode_image(encoded, channels=3, expand_animations=False)
    except tf.errors.OpError as error:
      return error.message.splitlines()[0]
    return None


Source = ArraySource | EncodedSource


def load_source(
  kind: str,
  *,
  path: str,
  test_path: str,
  tfds_name: str,
  train_split: str,
  test_split: str,
  test_fraction: float,
  on_bad_image: str = "raise",
) -> tuple[Source, Source | None]:
  """The training and the test images.

  Args:
    kind: "digits" (scikit-learn's, in memory), "npz", "folder" or "tfds".
    path: npz: the training file; folder: the root; tfds: its data directory, or
      "" for TFDS's own default.
    test_path: npz: the test file, or "".
    tfds_name: tfds: name of the builder.
    train_split, test_split: names of splits (tfds) or sub-folders (folder).
    test_fraction: held out of labelled training images, by class, if the source
      has no test images of its own. 0 holds out none.
    on_bad_image: "raise", or "skip": another image's pixels are seen in its place.

  Returns:
    Training and test source; the test source is None where there is none.
  """
  test: Source | None = None
  if kind == "digits":
    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    train = ArraySource(_rgb(pixels, "digits"), digits.target.astype(np.int64))
  elif kind == "npz":
    train = read_npz(path)
    test = read_npz(test_path) if test_path else None
  elif kind == "folder":
    train, test = _folder_sources(path, train_split, test_split)
  elif kind == "tfds":
    train = EncodedSource(*tfds_source.open_split(tfds_name, train_split, path))
    if test_split:
      test = EncodedSource(*tfds_source.open_split(tfds_name, test_split, path))
  else:
    kinds = "digits, npz, folder, tfds"
    raise ValueError(f"data.source {kind!r} must be one of {kinds}")
  if isinstance(train, EncodedSource):
    train = dataclasses.replace(train, on_bad_image=on_bad_image)
  if isinstance(test, EncodedSource):
    test = dataclasses.replace(test, on_bad_image=on_bad_image)
  if test is None and test_fraction > 0 and train.labels() is not None:
    train, test = hold_out(train, test_fraction)
  return train, test


def read_npz(path: str) -> ArraySource:
  """Arrays `image`, uint8 [N, H, W(, 1 or 3)], and maybe `label`, [N] int.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it does not hold what it should.
  """
  if not tf.io.gfile.exists(path) or tf.io.gfile.isdir(path):
    raise FileNotFoundError(
      f"no file {path!r}; set data.path=FILE or data.test_path=FILE"
    )
  with tf.io.gfile.GFile(path, "rb") as file:
    if not zipfile.is_zipfile(file):
      raise ValueError(f"{path} is not a whole .npz file, as numpy.savez writes it")
    file.seek(0)
    with np.load(file) as arrays:
      if "image" not in arrays:
        raise ValueError(f"{path} has arrays {arrays.files}; 'image' is missing")
      return array_source(arrays["image"], arrays.get("label"), path)


def array_source(
  images: np.ndarray, labels: np.ndarray | None, origin: str
) -> ArraySource:
  """Images in memory, uint8 [N, H, W(, 1 or 3)], and maybe labels, [N] int.

  Raises:
    ValueError: they are of another kind; says so of `origin`.
  """
  images = _rgb(images, origin)
  if labels is None:
    return ArraySource(images, None)
  if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(
      f"{origin}: {len(images)} images but labels {labels.shape} {labels.dtype}, must "
      "be an integer for each"
    )
  return ArraySource(images, labels.astype(np.int64))


def _rgb(images: np.ndarray, origin: str) -> np.ndarray:
  if images.dtype != np.uint8:
    raise ValueError(f"{origin}: images are {images.dtype}, must be uint8 in 0..255")
  if images.ndim == 3:
    images = images[..., None]
  if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
    raise ValueError(
      f"{origin}: images {images.shape} must be [N, H, W], [N, H, W, 1] or [N, H, W, 3]"
    )
  return np.ascontiguousarray(np.broadcast_to(images, (*images.shape[:3], 3)))


def _folder_sources(
  root: str, train_split: str, test_split: str
) -> tuple[EncodedSource, EncodedSource | None]:
  train_root = tf.io.gfile.join(root, train_split)
  if not tf.io.gfile.isdir(train_root):
    train_root = root
  paths, labels, classes = folder.list_images(train_root, None)
  test_root = tf.io.gfile.join(root, test_split)
  test = None
  if test_split and tf.io.gfile.isdir(test_root) and train_root != root:
    test_paths, test_labels, _ = folder.list_images(test_root, classes)
    test = _paths_source(test_paths, test_labels)
  return _paths_source(paths, labels), test


def folder_source(
  root: str, *, on_bad_image: str = "raise"
) -> tuple[EncodedSource, list[str]]:
  """All images of a folder or of its folders, and their paths in the same order.

  Raises:
    FileNotFoundError: there is no such folder, or no image in it.
  """
  paths, labels, _ = folder.list_images(root, None)
  source = _paths_source(paths, labels)
  return dataclasses.replace(source, on_bad_image=on_bad_image), paths


def _paths_source(paths: list[str], labels: np.ndarray | None) -> EncodedSource:
  table = tf.constant(paths)  # once, not in the graph of each pipeline
  return EncodedSource(
    num_images=len(paths),
    labels=lambda: labels,
    fetch=lambda ids: tf.gather(table, ids),
    load=tf.io.read_file,
    name=lambda image: paths[image],
  )


def hold_out(train: Source, fraction: float) -> tuple[Source, Source]:
  """Splits off test images of a labelled source, by class if there are enough."""
  # A fixed seed: the test images must not change with the seed of a run.
  kept, held = split_rows(train.labels(), held_out=fraction, seed=0)
  return train.subset(np.sort(kept)), train.subset(np.sort(held))
