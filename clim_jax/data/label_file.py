"""Labels of a folder's images from a file of lines, such as ImageNet's validation."""

import os
import re

import numpy as np
import tensorflow as tf
from scipy.io import loadmat

from clim_jax.data.source import NO_LABEL


def read_labels(file: str, paths: list[str], classes: list[str]) -> np.ndarray:
  """The label of each image.

  Args:
    file: lines "NAME CLASS", parted by blanks or commas, other columns being passed
      over: NAME with or without its extension, CLASS a name or a place in `classes`.
      Or ImageNet's own: a number a line, in the order of the images, which meta.mat
      beside it translates.
    paths: of the images, in sorted order.
    classes: names in the order of their labels.

  Returns:
    [N] int64, NO_LABEL for an image without a line.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it labels no image, or with a class that there is not.
  """
  if not tf.io.gfile.exists(file):
    raise FileNotFoundError(f"no file {file!r}; set data.test_labels=FILE")
  with tf.io.gfile.GFile(file) as lines:
    rows = [re.split(r"[\s,;]+", line.strip()) for line in lines if line.strip()]
  if all(len(row) == 1 for row in rows):
    return _by_order(file, [row[0] for row in rows], paths, classes)
  given = {os.path.basename(row[0]): row[1] for row in rows if len(row) > 1}
  labels = []
  for path in paths:
    name = os.path.basename(path)
    text = given.get(name, given.get(os.path.splitext(name)[0]))
    labels.append(NO_LABEL if text is None else _label(file, text, classes))
  if set(labels) == {NO_LABEL}:
    raise ValueError(
      f"{file} labels no image: its lines begin as {', '.join(list(given)[:3])}, the "
      f"images are {', '.join(os.path.basename(path) for path in paths[:3])}"
    )
  return np.array(labels, np.int64)


def _by_order(
  file: str, numbers: list[str], paths: list[str], classes: list[str]
) -> np.ndarray:
  meta = os.path.join(os.path.dirname(file), "meta.mat")
  if len(numbers) != len(paths) or not tf.io.gfile.exists(meta):
    raise ValueError(
      f"{file} has {len(numbers)} lines without names for {len(paths)} images; lines "
      "must be 'NAME CLASS', or be ImageNet's, one an image, with meta.mat beside them"
    )
  with tf.io.gfile.GFile(meta, "rb") as content:
    synsets = loadmat(content, squeeze_me=True)["synsets"]
  names = dict(zip(synsets["ILSVRC2012_ID"].astype(int), synsets["WNID"], strict=True))
  labels = [_label(file, str(names[int(number)]), classes) for number in numbers]
  return np.array(labels, np.int64)


def _label(file: str, text: str, classes: list[str]) -> int:
  if text in classes:
    return classes.index(text)
  if text.isdigit() and int(text) < len(classes):
    return int(text)
  raise ValueError(
    f"{file} names a class {text!r}, which is neither a folder of training nor a place "
    f"among its {len(classes)}"
  )
