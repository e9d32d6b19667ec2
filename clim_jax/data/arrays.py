"""Images in memory, and in NumPy's files."""

import os
import zipfile
from collections.abc import Callable, Collection

import numpy as np
import tensorflow as tf

from clim_jax.data.source import ArraySource

# What arrays are called, in lower case; with parts "train_images" or "x_train".
_IMAGES = ("image", "images", "x", "data", "arr_0")
_LABELS = ("label", "labels", "y", "target", "targets", "arr_1")
_PARTS = ("train", "test", "val", "valid", "validation")

Mend = Callable[[str], str]  # an expression of the array `x` → what to do


def read_npz(path: str) -> dict[str, ArraySource]:
  """Images and maybe labels by part: "train", "test", …, or "" where there are none.

  An array is called `image` or `images`, `x` or `arr_0`, its labels `label`, `labels`,
  `y` or `arr_1`; with parts, as MedMNIST's `train_images` or Keras's `x_train`. What
  they must be, says `array_source`.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it does not hold what it should; the message says how to mend it.
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
      found = {}
      for part in ("", *_PARTS):
        image = _array_name(arrays.files, _IMAGES, part)
        if image is None:
          continue
        label = _array_name(arrays.files, _LABELS, part)
        labels = None if label is None else arrays[label]
        mend = _command(path, image)
        found[part] = array_source(arrays[image], labels, f"{path}, {image}", mend)
      if not found:
        raise ValueError(
          f"{path} has arrays {arrays.files}; 'image' is missing, or train_images or "
          "x_train"
        )
  return found


def _array_name(
  given: Collection[str], names: tuple[str, ...], part: str
) -> str | None:
  lower = {name.lower(): name for name in given}
  for name in names:
    for full in (f"{part}_{name}", f"{name}_{part}") if part else (name,):
      if full in lower:
        return lower[full]
  return None


def _command(path: str, name: str) -> Mend:
  """A command that writes the file anew with one array replaced."""
  mended = f"{os.path.splitext(path)[0]}-mended.npz"
  return lambda expression: (
    f"write it anew: python -c \"import numpy as np; a = dict(np.load('{path}')); "
    f"x = a['{name}']; a['{name}'] = {expression}; np.savez('{mended}', **a)\""
  )


def array_source(
  images: np.ndarray,
  labels: np.ndarray | None,
  origin: str,
  mend: Mend = "give {}, x being the images".format,
) -> ArraySource:
  """Images in memory, uint8 [N, H, W(, 1 or 3)], and maybe labels, [N(, 1)] int.

  Raises:
    ValueError: they are of another kind; says so of `origin`, and how to mend it.
  """
  images = _rgb(images, origin, mend)
  if labels is None:
    return ArraySource(images, None)
  if labels.shape == (len(images), 1):
    labels = labels[:, 0]
  if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(
      f"{origin}: {len(images)} images but labels {labels.shape} {labels.dtype}, must "
      "be an integer for each; of one-hot rows take .argmax(1), of names "
      "numpy.unique(names, return_inverse=True)[1]"
    )
  return ArraySource(images, labels.astype(np.int64))


def _rgb(images: np.ndarray, origin: str, mend: Mend) -> np.ndarray:
  if images.ndim == 3:
    images = images[..., None]
  shape = images.shape
  square = len(shape) == 4 and shape[1] != shape[2] == shape[3] > 4
  if square or (len(shape) == 4 and shape[-1] > 4 and shape[1] in (1, 3)):
    raise ValueError(
      f"{origin}: images {shape} have their channels first, must be [N, H, W, C]; "
      + mend("x.transpose(0, 2, 3, 1)")
    )
  if len(shape) == 4 and shape[-1] == 4:
    raise ValueError(
      f"{origin}: images {shape} have 4 channels, must be [N, H, W, 3]; if the last is "
      "transparency, " + mend("x[..., :3]")
    )
  if len(shape) == 4 and shape[-1] > 4:
    raise ValueError(
      f"{origin}: images {shape} have {shape[-1]} channels, must be [N, H, W, 3]; "
      "choose three, such as 3, 2, 1 for red, green, blue of Sentinel-2, and "
      + mend("x[..., [3, 2, 1]]")
    )
  if len(shape) != 4 or shape[-1] not in (1, 3) or 0 in shape:
    raise ValueError(
      f"{origin}: images {shape} must be [N, H, W], [N, H, W, 1] or [N, H, W, 3]"
    )
  if images.dtype != np.uint8:
    raise ValueError(_of_other_type(images, origin, mend))
  return np.ascontiguousarray(np.broadcast_to(images, (*shape[:3], 3)))


def _of_other_type(images: np.ndarray, origin: str, mend: Mend) -> str:
  told = f"{origin}: images are {images.dtype}, must be uint8 in 0..255; "
  if not np.issubdtype(images.dtype, np.number):
    return told + "they are no numbers"
  low, high = images.min(), images.max()
  told += f"their values are {low:g} to {high:g}; "
  if np.issubdtype(images.dtype, np.integer) and low >= 0 and high <= 255:
    return told + mend("x.astype('uint8')")
  # One scale for all, so that dark images stay dark.
  scaled = "(x - x.min()) / (x.max() - x.min())" if low < 0 else "x / x.max()"
  if low >= 0 and high <= 1:
    scaled = "x"
  return told + mend(f"({scaled} * 255).round().astype('uint8')")
