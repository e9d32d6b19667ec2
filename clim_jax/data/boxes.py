"""The boxes of `crops` in TensorFlow: an image's size is known once it is read."""

import itertools
import math
from collections.abc import Sequence

import tensorflow as tf

from clim_jax.data.crops import TRIES, CenterCrop, Crop, RandomCrop


def boxes(
  crop: Crop, uniforms: tf.Tensor, height: tf.Tensor, width: tf.Tensor
) -> tf.Tensor:
  """[..., UNIFORMS], [...], [...] → (top, left, height, width), [..., 4] int32."""
  if isinstance(crop, CenterCrop):
    return _center_boxes(crop, height, width)
  return _random_boxes(crop, uniforms, height, width)


def boxes_of(
  crops: Sequence[Crop], uniforms: tf.Tensor, height: tf.Tensor, width: tf.Tensor
) -> tf.Tensor:
  """Boxes of all crops of one image, [len(crops), UNIFORMS] → [len(crops), 4] int32.

  Crops that differ in their side alone are drawn in one go: for small images the
  number of operations is what costs.
  """
  found, start = [], 0
  for crop, alike in itertools.groupby(crops, lambda crop: crop._replace(side=0)):
    stop = start + len(list(alike))
    sizes = (tf.repeat(height, stop - start), tf.repeat(width, stop - start))
    found.append(boxes(crop, uniforms[start:stop], *sizes))
    start = stop
  return tf.concat(found, axis=0)


def _random_boxes(
  crop: RandomCrop, uniforms: tf.Tensor, height: tf.Tensor, width: tf.Tensor
) -> tf.Tensor:
  image_h, image_w = _float(height)[..., None], _float(width)[..., None]
  low, high = crop.scale
  area = image_h * image_w * (low + (high - low) * uniforms[..., :TRIES])
  log_low, log_high = (math.log(limit) for limit in crop.aspect_ratio)
  log_ratio = log_low + (log_high - log_low) * uniforms[..., TRIES : 2 * TRIES]
  ratio = tf.exp(log_ratio)
  tries_w, tries_h = tf.round(tf.sqrt(area * ratio)), tf.round(tf.sqrt(area / ratio))
  fits = (tries_w >= 1) & (tries_w <= image_w) & (tries_h >= 1) & (tries_h <= image_h)
  # Not argmax, which does not promise the first of equals.
  places = tf.where(fits, tf.range(TRIES), TRIES - 1)
  first = tf.reduce_min(places, axis=-1, keepdims=True)
  rank = len(uniforms.shape) - 1
  crop_h = tf.gather(tries_h, first, axis=-1, batch_dims=rank)
  crop_w = tf.gather(tries_w, first, axis=-1, batch_dims=rank)

  top = tf.floor(uniforms[..., -2:-1] * (image_h - crop_h + 1))
  left = tf.floor(uniforms[..., -1:] * (image_w - crop_w + 1))
  box = tf.concat([top, left, crop_h, crop_w], axis=-1)
  any_fits = tf.reduce_any(fits, axis=-1, keepdims=True)
  central = _central_boxes(crop.aspect_ratio, image_h, image_w)
  return tf.cast(tf.where(any_fits, box, central), tf.int32)


def _central_boxes(
  aspect_ratio: tuple[float, float], image_h: tf.Tensor, image_w: tf.Tensor
) -> tf.Tensor:
  low, high = aspect_ratio
  crop_w = tf.clip_by_value(tf.round(image_h * high), 1.0, image_w)
  crop_h = tf.clip_by_value(tf.round(image_w / low), 1.0, image_h)
  return tf.concat(
    [(image_h - crop_h) // 2, (image_w - crop_w) // 2, crop_h, crop_w], axis=-1
  )


def _center_boxes(crop: CenterCrop, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
  shorter = _float(tf.minimum(height, width))
  extent = tf.maximum(tf.cast(tf.round(shorter * crop.fraction), tf.int32), 1)
  top, left = (height - extent) // 2, (width - extent) // 2
  return tf.stack([top, left, extent, extent], axis=-1)


def _float(x: tf.Tensor) -> tf.Tensor:
  return tf.cast(x, tf.float32)
