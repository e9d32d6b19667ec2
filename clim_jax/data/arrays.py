"""Images in memory, and in NumPy's files."""

import dataclasses
import math
import os
import zipfile
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from etils import epath

from clim_jax.data.source import NO_LABEL, ArraySource

# What arrays are called, in lower case; with parts "train_images" or "x_train".
_IMAGES = ("image", "images", "img", "imgs", "x", "data", "arr_0")
_LABELS = ("label", "labels", "y", "target", "targets", "arr_1")
_PARTS = ("train", "test", "val", "valid", "validation", "dev", "eval")
# What test images are usually called, in lower case.
TEST_NAMES = ("test", "testing", "val", "valid", "validation", "dev", "eval")

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
  if not epath.Path(path).is_file():
    raise FileNotFoundError(
      f"no file {path!r}; set data.path=FILE or data.test_path=FILE"
    )
  with epath.Path(path).open("rb") as file:
    if path.endswith(".npy"):
      raise ValueError(
        f'{path} holds one array; write it as .npz: python -c "import numpy as np; '
        f"np.savez('{path[:-1]}z', image=np.load('{path}'))\""
      )
    if not zipfile.is_zipfile(file):
      raise ValueError(f"{path} is not a whole .npz file, as numpy.savez writes it")
    file.seek(0)
    with np.load(file) as arrays:
      found, names = {}, {}
      for part in ("", *_PARTS):
        image = _array_name(arrays.files, _IMAGES, part)
        if image is not None:
          names[part] = image, _array_name(arrays.files, _LABELS, part)
      labels = {part: _read(arrays, path, name) for part, (_, name) in names.items()}
      labels, classes = _numbered(labels)
      for part, (image, label) in names.items():
        mend = _command(path, image)
        source = array_source(
          _read(arrays, path, image),
          labels[part],
          f"{path}, {image}",
          mend,
          _command(path, label),
        )
        found[part] = dataclasses.replace(source, class_names=classes)
      if not found:
        raise ValueError(
          f"{path} has arrays {arrays.files}; 'image' is missing, or train_images or "
          "x_train"
        )
  return found


def _read(arrays: np.lib.npyio.NpzFile, path: str, name: str | None) -> Any:
  """An array; None without a name."""
  try:
    return None if name is None else arrays[name]
  except ValueError as error:
    if "Object arrays" not in str(error):
      raise
    raise ValueError(
      f"{path}: {name} holds Python objects, which are not loaded: they could run "
      "programs. Write it anew where it comes from, labels as numbers or "
      "np.array(labels, str), images of one size as uint8, of several as files"
    ) from error


def _numbered(
  labels: dict[str, np.ndarray | None],
) -> tuple[dict[str, np.ndarray | None], tuple[str, ...]]:
  """Labels that are names as places among all names, which come with them, sorted."""
  named = {
    part: values.astype(str)
    for part, values in labels.items()
    if values is not None and values.dtype.kind in "US"
  }
  if not named:
    return labels, ()
  classes = np.unique(np.concatenate([values.ravel() for values in named.values()]))
  numbers = {part: np.searchsorted(classes, values) for part, values in named.items()}
  return labels | numbers, tuple(classes.tolist())


def _array_name(
  given: Collection[str], names: tuple[str, ...], part: str
) -> str | None:
  lower = {name.lower(): name for name in given}
  for name in names:
    for full in (f"{part}_{name}", f"{name}_{part}") if part else (name,):
      if full in lower:
        return lower[full]
  return None


def _command(path: str, name: str | None) -> Mend:
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
  mend_labels: Mend = "give {}, x being the labels".format,
) -> ArraySource:
  """Images in memory, uint8 [N, H, W(, 1 or 3)], and maybe labels, [N(, 1)] int.

  A label is at least 0; −1 is none.

  Raises:
    ValueError: they are of another kind; says so of `origin`, and how to mend it.
  """
  images = _rgb(images, origin, mend)
  if labels is None:
    return ArraySource(images, None)
  if labels.shape == (len(images), 1):
    labels = labels[:, 0]
  told = (
    f"{origin}: {len(images)} images but labels {labels.shape} {labels.dtype}, must "
  )
  if labels.shape != images.shape[:1]:
    one_hot = labels.ndim == 2 and len(labels) == len(images)
    how = "; of one-hot rows " + mend_labels("x.argmax(1)") if one_hot else ""
    raise ValueError(f"{told}be an integer for each{how}")
  if labels.dtype.kind not in "iu":
    is_whole = labels.dtype.kind == "b" or (labels == np.round(labels)).all()
    how = "; " + mend_labels("x.astype('int64')") if is_whole else ""
    raise ValueError(f"{told}be whole numbers{how}")
  if len(labels) and labels.min() < NO_LABEL:
    raise ValueError(
      f"{origin}: labels are {labels.min()} to {labels.max()}, must be at least 0, or "
      "−1 for none; " + mend_labels("x - x.min()")
    )
  return ArraySource(images, labels.astype(np.int64))


def _rgb(images: np.ndarray, origin: str, mend: Mend) -> np.ndarray:
  shape = images.shape
  if len(shape) == 3 and shape[-1] in (3, 4):
    raise ValueError(
      f"{origin}: images {shape} look like one image, must be [N, H, W, 3]; "
      + mend("x[None]")
    )
  if images.ndim == 3:
    images = images[..., None]
  shape = images.shape
  if len(shape) == 4 and shape[2] in (1, 3) and shape[3] > 4 < shape[1]:
    raise ValueError(
      f"{origin}: images {shape} have their number last, must be [N, H, W, C]; "
      + mend("x.transpose(3, 0, 1, 2)")
    )
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
      + _unflattened(shape, mend)
    )
  if images.dtype != np.uint8:
    raise ValueError(_of_other_type(images, origin, mend))
  return np.ascontiguousarray(np.broadcast_to(images, (*shape[:3], 3)))


def _unflattened(shape: tuple[int, ...], mend: Mend) -> str:
  """How rows of pixels become square images, if they can."""
  pixels = shape[1] if len(shape) == 2 else 0
  side = math.isqrt(pixels)
  if pixels and side * side == pixels:
    return f"; of rows {mend(f'x.reshape(-1, {side}, {side})')}"
  side = math.isqrt(pixels // 3)
  if not pixels or 3 * side * side != pixels:
    return ""
  planes = f"x.reshape(-1, 3, {side}, {side}).transpose(0, 2, 3, 1)"
  return f"; of rows of a red, a green and a blue plane, as CIFAR has, {mend(planes)}"


def _of_other_type(images: np.ndarray, origin: str, mend: Mend) -> str:
  told = f"{origin}: images are {images.dtype}, must be uint8 in 0..255; "
  if images.dtype == bool:
    return told + mend("x.astype('uint8') * 255")
  if not np.issubdtype(images.dtype, np.number):
    return told + "they are no numbers"
  if not np.isfinite(images).all():
    return told + "some are not finite; set them, such as to 0 by np.nan_to_num"
  low, high = images.min(), images.max()
  told += f"their values are {low:g} to {high:g}; "
  if np.issubdtype(images.dtype, np.integer) and low >= 0 and high <= 255:
    return told + mend("x.astype('uint8')")
  if low >= 0 and 1 < high <= 255:
    return told + mend("x.round().astype('uint8')")
  # One scale for all, so that dark images stay dark.
  scaled = "(x - x.min()) / (x.max() - x.min())" if low < 0 else "x / x.max()"
  if low >= 0 and high <= 1:
    scaled = "x"
  return told + mend(f"({scaled} * 255).round().astype('uint8')")
