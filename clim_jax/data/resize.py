"""Crops to squares: bilinear with antialiasing, as PIL does it, in TensorFlow.

The filter is separable: a pass down the rows, then one along the columns.
"""

import tensorflow as tf

from clim_jax.data.crops import ROUNDING


def resize_crops(images: tf.Tensor, boxes: tf.Tensor, side: int) -> tf.Tensor:
  """Crops and resizes a batch of equally large images.

  Bilinear with antialiasing is separable, so each crop is two small matrix
  products, rows then columns, and a batch is two batched ones: no loop.

  Args:
    images: [B, H, W, 3] uint8.
    boxes: [B, 4] int32.
    side: S.

  Returns:
    [B, S, S, 3] uint8, what `resize_image` gives for each image.
  """
  rows = _resize_matrix(boxes[:, 0], boxes[:, 2], images.shape[1], side)
  columns = _resize_matrix(boxes[:, 1], boxes[:, 3], images.shape[2], side)
  resized = tf.einsum("bsh,bhwc->bswc", rows, _float(images))
  return _to_uint8(tf.einsum("btw,bswc->bstc", columns, resized))


def _resize_matrix(
  start: tf.Tensor, extent: tf.Tensor, size: int, side: int
) -> tf.Tensor:
  """Weights of a triangle filter from `size` pixels to `side`, [B, side, size]."""
  start, extent = _float(start)[:, None, None], _float(extent)[:, None, None]
  step = extent / side
  center = start + (tf.range(side, dtype=tf.float32)[None, :, None] + 0.5) * step
  pixel = tf.range(size, dtype=tf.float32)[None, None, :] + 0.5
  weight = tf.nn.relu(1.0 - tf.abs(pixel - center) / tf.maximum(step, 1.0))
  inside = (pixel > start) & (pixel < start + extent)
  weight = tf.where(inside, weight, 0.0)
  return weight / tf.reduce_sum(weight, axis=-1, keepdims=True)


def resize_image(image: tf.Tensor, box: tf.Tensor, side: int) -> tf.Tensor:
  """Crops and resizes one image of any size.

  The kernel is fast along the channels only. So each pass takes a whole line as one
  pixel of many channels, and the image is transposed in between.

  Args:
    image: [H, W, 3] uint8.
    box: (top, left, height, width), [4] float32; need not be whole pixels.
    side: S.

  Returns:
    [S, S, 3] uint8. Pixels that the box only touches count as inside.
  """
  low = tf.floor(box[:2])
  high = tf.minimum(tf.math.ceil(box[:2] + box[2:]), _float(tf.shape(image)[:2]))
  start, (top, left), (bottom, right) = (
    box[:2] - low,
    *(tf.unstack(tf.cast(corner, tf.int32)) for corner in (low, high)),
  )
  crop = image[top:bottom, left:right]
  once = _resize_rows(crop, start[0], box[2], side)
  twice = _resize_rows(tf.transpose(once, (1, 0, 2)), start[1], box[3], side)
  # In 0 … 255 as it is, so adding a half rounds.
  return tf.transpose(tf.cast(twice + 0.5, tf.uint8), (1, 0, 2))


def _resize_rows(
  image: tf.Tensor, start: tf.Tensor, extent: tf.Tensor, side: int
) -> tf.Tensor:
  """[H, W, 3] → [side, W, 3] float32, of rows `start` … `start` + `extent`."""
  height, width, channels = tf.unstack(tf.shape(image))
  scale = side / extent
  lines = tf.raw_ops.ScaleAndTranslate(
    images=tf.reshape(image, (1, height, 1, width * channels)),
    size=(side, 1),
    scale=tf.stack((scale, 1.0)),
    translation=tf.stack((-start * scale, 0.0)),
    kernel_type="triangle",
    antialias=True,
  )
  return tf.reshape(lines, (side, width, channels))


def _float(x: tf.Tensor) -> tf.Tensor:
  return tf.cast(x, tf.float32)


def _to_uint8(x: tf.Tensor) -> tf.Tensor:
  return tf.cast(tf.clip_by_value(x + ROUNDING, 0.0, 255.0), tf.uint8)
