"""Encoded images to crops, decoding no more than the crops need."""

import functools
from collections.abc import Sequence

import tensorflow as tf

from clim_jax.data.crops import Crop, boxes_of
from clim_jax.data.resize import resize_image

_RATIOS = (1, 2, 4, 8)  # by which the inverse DCT can shrink a JPEG


def decode_crops(
  encoded: tf.Tensor, crops: Sequence[Crop], uniforms: tf.Tensor
) -> tuple[tf.Tensor, ...]:
  """Decodes an image once and cuts all crops from it.

  Of a JPEG only the smallest box around all crops is decoded, and shrunk meanwhile
  (by 2, 4 or 8) if no crop then has fewer pixels than it is to have.

  Args:
    encoded: JPEG or PNG bytes, [] string.
    crops: what to cut.
    uniforms: [len(crops), UNIFORMS] float32.

  Returns:
    A square image for each crop, [S, S, 3] uint8.
  """

  def from_jpeg() -> tuple[tf.Tensor, ...]:
    shape = tf.io.extract_jpeg_shape(encoded)
    boxes = boxes_of(crops, uniforms, shape[0], shape[1])
    sides = tf.constant([crop.side for crop in crops])
    room = tf.reduce_min(tf.reduce_min(boxes[:, 2:], axis=1) // sides)
    branches = [
      functools.partial(_cut_jpeg, encoded, shape, boxes, crops, ratio)
      for ratio in _RATIOS
    ]
    chosen = tf.reduce_sum(tf.cast(room >= _RATIOS[1:], tf.int32))
    return tf.switch_case(chosen, branches)

  def from_other() -> tuple[tf.Tensor, ...]:
    whole = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    whole.set_shape([None, None, 3])
    shape = tf.shape(whole)
    return _cut(whole, boxes_of(crops, uniforms, shape[0], shape[1]), crops)

  images = tf.cond(tf.io.is_jpeg(encoded), from_jpeg, from_other)
  for image, crop in zip(images, crops, strict=True):
    image.set_shape([crop.side, crop.side, 3])
  return images


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
