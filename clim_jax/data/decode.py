"""Encoded images to crops, decoding no more than the crops need."""

import contextlib
import functools
import io
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from clim_jax.data.boxes import boxes_of
from clim_jax.data.crops import Crop
from clim_jax.data.depth import ALL_BITS, is_deep_png, to_uint8
from clim_jax.data.orientation import (
  orientation_of,
  stored_boxes,
  turn_upright,
  upright_size,
)
from clim_jax.data.resize import resize_image
from clim_jax.data.size import MOST_PIXELS, PNG, check_size, png_size

_RATIOS = (1, 2, 4, 8)  # by which the inverse DCT can shrink a JPEG


def decode_crops(
  encoded: tf.Tensor,
  crops: Sequence[Crop],
  uniforms: tf.Tensor,
  white: int = ALL_BITS,
  max_pixels: int = MOST_PIXELS,
) -> tuple[tf.Tensor, ...]:
  """Decodes an image once and cuts all crops from it.

  Of a JPEG only the smallest box around all crops is decoded, and shrunk meanwhile
  (by 2, 4 or 8) if no crop then has fewer pixels than it is to have. Photographs are
  seen upright, as their EXIF orientation says.

  Args:
    encoded: bytes of an image file, [] string: JPEG, PNG, or what Pillow reads.
    crops: what to cut.
    uniforms: [len(crops), UNIFORMS] float32.
    white: the value shown as white, of images of 16 bits a channel.
    max_pixels: an image of more is not decoded.

  Returns:
    A square image for each crop, [S, S, 3] uint8.
  """

  def from_jpeg() -> tuple[tf.Tensor, ...]:
    shape = tf.io.extract_jpeg_shape(encoded)
    with _refused_beyond(max_pixels, shape[:2]):
      shape = tf.identity(shape)
    orientation = orientation_of(encoded)
    size = upright_size(orientation, shape[0], shape[1])
    boxes = stored_boxes(boxes_of(crops, uniforms, *size), orientation, *size)
    sides = tf.constant([crop.side for crop in crops])
    room = tf.reduce_min(tf.reduce_min(boxes[:, 2:], axis=1) // sides)
    branches = [
      functools.partial(_cut_jpeg, encoded, shape, boxes, crops, ratio)
      for ratio in _RATIOS
    ]
    chosen = tf.reduce_sum(tf.cast(room >= _RATIOS[1:], tf.int32))
    return turn_upright(tf.switch_case(chosen, branches), orientation)

  def from_other() -> tuple[tf.Tensor, ...]:
    whole = _decode_other(encoded, white, max_pixels)
    shape = tf.shape(whole)
    return _cut(whole, boxes_of(crops, uniforms, shape[0], shape[1]), crops)

  images = tf.cond(tf.io.is_jpeg(encoded), from_jpeg, from_other)
  for image, crop in zip(images, crops, strict=True):
    image.set_shape([crop.side, crop.side, 3])
  return images


def decode_whole(encoded: tf.Tensor, max_pixels: int) -> tf.Tensor:
  """All of an image, [] string → [H, W, 3] uint8; a JPEG lies as it is stored.

  Not for graphs: what is wrong with an image is said in words.

  Raises:
    ValueError, tf.errors.OpError: it cannot be decoded, or has more pixels than
      `max_pixels`.
  """
  if tf.io.is_jpeg(encoded):
    height, width, _ = tf.io.extract_jpeg_shape(encoded).numpy().tolist()
    check_size(height, width, max_pixels)
  elif encoded.numpy().startswith(PNG):
    check_size(*png_size(encoded.numpy()), max_pixels)
  return tf.cond(
    tf.io.is_jpeg(encoded),
    lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
    lambda: _decode_other(encoded, ALL_BITS, max_pixels),
  )


def _refused_beyond(
  max_pixels: int, size: tf.Tensor
) -> contextlib.AbstractContextManager:
  """Nothing in it is done for an image of more pixels; `size` is [2] int32."""
  pixels = tf.reduce_prod(tf.cast(size, tf.int64))
  # In a graph a number has to do: `decode_whole` says it in words.
  return tf.control_dependencies([tf.debugging.Assert(pixels <= max_pixels, [pixels])])


def _decode_other(encoded: tf.Tensor, white: int, max_pixels: int) -> tf.Tensor:
  def by_pillow() -> tf.Tensor:
    # TensorFlow has no TIFF, and takes a BMP's palette for greys.
    read = functools.partial(_with_pillow, white=white, max_pixels=max_pixels)
    whole = tf.numpy_function(read, [encoded], tf.uint8)
    return tf.ensure_shape(whole, (None, None, 3))

  def from_png() -> tf.Tensor:
    size = tf.io.decode_raw(
      tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False
    )
    with _refused_beyond(max_pixels, size):
      png = tf.identity(encoded)
    return tf.cond(
      is_deep_png(encoded),
      lambda: to_uint8(tf.io.decode_png(png, channels=3, dtype=tf.uint16), white),
      lambda: tf.io.decode_png(png, channels=3),
    )

  is_png = tf.strings.substr(encoded, 0, len(PNG)) == PNG
  return tf.cond(is_png, from_png, by_pillow)


def _with_pillow(
  encoded: bytes | np.ndarray, white: int, max_pixels: int
) -> np.ndarray:
  """The first frame, upright, [H, W, 3] uint8."""
  if not isinstance(encoded, bytes):  # outside a graph TensorFlow wraps them
    encoded = encoded.item()
  try:
    with Image.open(io.BytesIO(encoded)) as image:
      check_size(image.height, image.width, max_pixels)
      if image.mode.startswith("I;16"):
        deep = np.asarray(ImageOps.exif_transpose(image))[..., None]
        return np.broadcast_to(to_uint8(deep, white).numpy(), (*deep.shape[:2], 3))
      if image.mode[0] in "IF":  # which Pillow would clip
        raise ValueError(f"pixels are of mode {image.mode}; convert it to 8 or 16 bits")
      return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
  except Image.UnidentifiedImageError as error:
    raise ValueError("no image of a known format") from error
  except (OSError, SyntaxError, Image.DecompressionBombError) as error:
    raise ValueError(str(error)) from error


def _cut_jpeg(
  encoded: tf.Tensor,
  shape: tf.Tensor,
  boxes: tf.Tensor,
  crops: Sequence[Crop],
  ratio: int,
) -> tuple[tf.Tensor, ...]:
  """Crops of a JPEG decoded at 1 / `ratio` of its size."""
  low = tf.reduce_min(boxes[:, :2], axis=0) // ratio
  high = -(-tf.reduce_max(boxes[:, :2] + boxes[:, 2:], axis=0) // ratio)
  # The slow, accurate inverse DCT: the fast one is off by several levels.
  image = tf.io.decode_and_crop_jpeg(
    encoded,
    tf.concat((low, high - low), axis=0),
    channels=3,
    ratio=ratio,
    dct_method="INTEGER_ACCURATE",
  )
  corner = tf.cast(tf.concat((low, (0, 0)), axis=0), tf.float32)
  return _cut(image, tf.cast(boxes, tf.float32) / ratio - corner, crops)


def _cut(
  image: tf.Tensor, boxes: tf.Tensor, crops: Sequence[Crop]
) -> tuple[tf.Tensor, ...]:
  boxes = tf.unstack(tf.cast(boxes, tf.float32), num=len(crops))
  return tuple(
    resize_image(image, box, crop.side) for box, crop in zip(boxes, crops, strict=True)
  )
