"""Images of 16 bits a channel: which of their values is white."""

import io
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from clim_jax.data.size import PNG, check_size, png_size

ALL_BITS = 65535
_SAMPLE = 32  # files
_DEEP = (".png", ".tif", ".tiff")
_BOMB = Image.DecompressionBombError


def to_uint8(values: tf.Tensor, white: int) -> tf.Tensor:
  """uint16 → uint8 of the same shape; 0 stays black, `white` and above become 255."""
  scaled = tf.round(tf.cast(values, tf.float32) * (255.0 / white))
  return tf.cast(tf.minimum(scaled, 255.0), tf.uint8)


def white_of(paths: Sequence[str], asked: int, max_pixels: int) -> int:
  """The value that is white: as asked, or where 0 is, that of all bits.

  Raises:
    ValueError: none was asked for and a sample of the images reaches far less, so that
      all would be nearly black.
  """
  deep = [path for path in paths if os.path.splitext(path)[1].lower() in _DEEP]
  if asked or not deep:
    return asked or ALL_BITS
  step = -(-len(deep) // _SAMPLE)
  reached = max(_largest(path, max_pixels) for path in deep[::step])
  likely = (1 << reached.bit_length()) - 1
  if reached and likely <= ALL_BITS // 4:
    raise ValueError(
      f"images of 16 bits whose values reach only {reached} of {ALL_BITS} in a sample "
      f"would be nearly black: set data.white_level={likely}, or {ALL_BITS} if they "
      "are to be"
    )
  return ALL_BITS


def is_deep_png(encoded: tf.Tensor) -> tf.Tensor:
  """Whether a PNG has 16 bits a channel, [] string → [] bool."""
  return tf.strings.substr(encoded, 24, 1) == b"\x10"


def _largest(path: str, max_pixels: int) -> int:
  """The largest value of an image of 16 bits; 0 of any other, or none at all."""
  try:
    with tf.io.gfile.GFile(path, "rb") as file:
      encoded = file.read()
    if encoded.startswith(PNG):
      check_size(*png_size(encoded), max_pixels)
      if encoded[24] != 16:
        return 0
      return int(tf.io.decode_png(encoded, dtype=tf.uint16).numpy().max())
    with Image.open(io.BytesIO(encoded)) as image:
      check_size(image.height, image.width, max_pixels)
      return int(np.asarray(image).max()) if image.mode.startswith("I;16") else 0
  except (OSError, ValueError, IndexError, _BOMB, tf.errors.OpError):
    return 0  # told when it is to be seen
