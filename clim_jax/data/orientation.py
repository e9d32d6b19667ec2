"""How a camera was held: EXIF's orientation of a JPEG, read and undone.

Orientations are EXIF's numbers 1 … 8. Each says which of three moves, in this order,
make the stored image upright: exchange rows and columns, mirror top to bottom, mirror
left to right.
"""

import struct
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

UPRIGHT = 1
_MOVES = (
  (False, False, False),
  (False, False, True),
  (False, True, True),
  (False, True, False),
  (True, False, False),
  (True, False, True),
  (True, True, True),
  (True, True, False),
)
_TAG = 0x0112
_HEAD = 1 << 16  # bytes that are looked through
_TABLES = b"\xff\xdb"  # begins what a JPEG without further notes goes on with


def orientation_of(encoded: tf.Tensor) -> tf.Tensor:
  """Of JPEG bytes, [] string → [] int32 in 1 … 8."""
  # No Python for files that hold nothing, or JFIF's fixed 18 bytes, before tables.
  bare = (tf.strings.substr(encoded, 2, 2) == _TABLES) | (
    tf.strings.substr(encoded, 20, 2) == _TABLES
  )

  def read() -> tf.Tensor:
    head = tf.strings.substr(encoded, 0, _HEAD)
    found = tf.numpy_function(
      lambda jpeg: np.int32(read_orientation(jpeg)), [head], tf.int32
    )
    return tf.ensure_shape(found, ())

  return tf.cond(bare, lambda: tf.constant(UPRIGHT), read)


def read_orientation(jpeg: bytes) -> int:
  """EXIF's orientation; 1 where there is none, or none that makes sense."""
  at = 2
  try:
    while True:
      mark, kind, length = struct.unpack_from(">BBH", jpeg, at)
      if mark != 0xFF or kind == 0xDA:  # no segment, or the pixels
        return UPRIGHT
      if kind == 0xE1 and jpeg[at + 4 : at + 10] == b"Exif\0\0":
        return _in_tiff(jpeg[at + 10 : at + 2 + length])
      at += 2 + length
  except struct.error:  # ends too early
    return UPRIGHT


def _in_tiff(tiff: bytes) -> int:
  order = {b"II": "<", b"MM": ">"}.get(tiff[:2], ">")
  (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
  (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
  for entry in range(entries):
    at = directory + 2 + 12 * entry
    tag, kind, _, short = struct.unpack_from(f"{order}HHIH", tiff, at)
    if tag == _TAG:
      (long,) = struct.unpack_from(f"{order}I", tiff, at + 8)
      value = long if kind == 4 else short
      return value if 1 <= value <= len(_MOVES) else UPRIGHT
  return UPRIGHT


def upright_size(
  orientation: tf.Tensor, height: tf.Tensor, width: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """Height and width of the upright image, from those of the stored one."""
  exchanged = orientation > 4
  return tf.where(exchanged, width, height), tf.where(exchanged, height, width)


def stored_boxes(
  boxes: tf.Tensor, orientation: tf.Tensor, height: tf.Tensor, width: tf.Tensor
) -> tf.Tensor:
  """Where boxes of the upright image, of this height and width, lie in the stored one.

  Boxes are (top, left, height, width), [N, 4] int32.
  """

  def moved() -> tf.Tensor:
    exchange, down, across = tf.unstack(tf.gather(_MOVES, orientation - 1))
    top, left, high, wide = tf.unstack(boxes, axis=1)
    top = tf.where(down, height - top - high, top)
    left = tf.where(across, width - left - wide, left)
    straight = tf.stack((top, left, high, wide), axis=1)
    return tf.where(exchange, tf.gather(straight, (1, 0, 3, 2), axis=1), straight)

  return tf.cond(orientation == UPRIGHT, lambda: boxes, moved)


def turn_upright(
  images: Sequence[tf.Tensor], orientation: tf.Tensor
) -> tuple[tf.Tensor, ...]:
  """Square images as they were meant to be seen, [S, S, 3] each."""

  def turned() -> tuple[tf.Tensor, ...]:
    exchange, down, across = tf.unstack(tf.gather(_MOVES, orientation - 1))
    out = []
    for image in images:
      image = _moved(exchange, image, lambda image: tf.transpose(image, (1, 0, 2)))
      image = _moved(down, image, lambda image: tf.reverse(image, (0,)))
      out.append(_moved(across, image, lambda image: tf.reverse(image, (1,))))
    return tuple(out)

  return tf.cond(orientation == UPRIGHT, lambda: tuple(images), turned)


def _moved(
  wanted: tf.Tensor, image: tf.Tensor, move: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
  return tf.cond(wanted, lambda: move(image), lambda: image)
