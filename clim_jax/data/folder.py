"""Image folders: one sub-folder a class, or flat without labels."""

import numpy as np
import tensorflow as tf

EXTENSIONS = (".jpg", ".jpeg", ".png")


def list_images(
  root: str, classes: list[str] | None
) -> tuple[list[str], np.ndarray | None, list[str]]:
  """Finds the images of a split, in sorted order; local paths or `gs://`.

  Args:
    root: a folder of class folders, or of images.
    classes: class names whose order gives the labels; None takes the folders'.

  Returns:
    Paths, labels [N] int64 (None for a flat folder), and the class names.

  Raises:
    FileNotFoundError: there is no such folder, or no image in it.
    ValueError: a class folder that `classes` does not name.
  """
  if not tf.io.gfile.isdir(root):
    raise FileNotFoundError(
      f"image folder {root!r} does not exist; set data.path=FOLDER"
    )
  entries = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(root))
  flat = [name for name in entries if name.lower().endswith(EXTENSIONS)]
  if flat:
    return [tf.io.gfile.join(root, name) for name in flat], None, []

  found = {name: _images_in(tf.io.gfile.join(root, name)) for name in entries}
  found = {name: paths for name, paths in found.items() if paths}
  if not found:
    raise FileNotFoundError(
      f"no image in {root!r}: expected CLASS/*.jpg, *.jpeg or *.png, or images "
      "directly in it"
    )
  classes = sorted(found) if classes is None else classes
  unknown = sorted(set(found) - set(classes))
  if unknown:
    raise ValueError(
      f"{root!r} has classes {unknown} that training has not: {classes}; rename or "
      "remove them, or set data.test_split to ''"
    )
  paths = [path for name in sorted(found) for path in found[name]]
  labels = [np.full(len(found[name]), classes.index(name)) for name in sorted(found)]
  return paths, np.concatenate(labels).astype(np.int64), classes


def _images_in(path: str) -> list[str]:
  if not tf.io.gfile.isdir(path):
    return []
  names = sorted(tf.io.gfile.listdir(path))
  return [
    tf.io.gfile.join(path, name) for name in names if name.lower().endswith(EXTENSIONS)
  ]
