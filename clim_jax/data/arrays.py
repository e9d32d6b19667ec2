"""Images in memory, and in NumPy's files."""

import zipfile

import numpy as np
import tensorflow as tf

from clim_jax.data.source import ArraySource


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
