"""Where to crop and how to resize: the geometric half of augmentation, in TensorFlow.

Randomness comes in as uniform numbers, so every function here is a plain map.
"""

import math
from typing import NamedTuple

import tensorflow as tf

_TRIES = 10
UNIFORMS = 2 * _TRIES + 2  # numbers in [0, 1) that one random crop consumes


class RandomCrop(NamedTuple):
  """RandomResizedCrop: a random area and aspect ratio, resized to a square."""

  side: int
  scale: tuple[float, float]  # share of the image's area
  aspect_ratio: tuple[float, float]  # width / height

  def boxes(
    self, uniforms: tf.Tensor, height: tf.Tensor, width: tf.Tensor
  ) -> tf.Tensor:
    """[..., UNIFORMS], [...], [...] → (top, left, height, width), [..., 4] int32.

    The first of ten tries that fits the image is taken; if none does, the
    largest central crop within the aspect ratios, as torchvision does.
    """
    image_h, image_w = _float(height)[..., None], _float(width)[..., None]
    low, high = self.scale
    area = image_h * image_w * (low + (high - low) * uniforms[..., :_TRIES])
    log_low, log_high = (math.log(limit) for limit in self.aspect_ratio)
    log_ratio = log_low + (log_high - log_low) * uniforms[..., _TRIES : 2 * _TRIES]
    ratio = tf.exp(log_ratio)
    tries_w, tries_h = tf.round(tf.sqrt(area * ratio)), tf.round(tf.sqrt(area / ratio))
    fits = (tries_w >= 1) & (tries_w <= image_w) & (tries_h >= 1) & (tries_h <= image_h)
    # Not argmax, which does not promise the first of equals.
    places = tf.where(fits, tf.range(_TRIES), _TRIES - 1)
    first = tf.reduce_min(places, axis=-1, keepdims=True)
    rank = len(uniforms.shape) - 1
    crop_h = tf.gather(tries_h, first, axis=-1, batch_dims=rank)
    crop_w = tf.gather(tries_w, first, axis=-1, batch_dims=rank)

    top = tf.floor(uniforms[..., -2:-1] * (image_h - crop_h + 1))
    left = tf.floor(uniforms[..., -1:] * (image_w - crop_w + 1))
    box = tf.concat([top, left, crop_h, crop_w], axis=-1)
    any_fits = tf.reduce_any(fits, axis=-1, keepdims=True)
    return tf.cast(tf.where(any_fits, box, self._central(image_h, image_w)), tf.int32)

  def _central(self, image_h: tf.Tensor, image_w: tf.Tensor) -> tf.Tensor:
    low, high = self.aspect_ratio
    crop_w = tf.clip_by_value(tf.round(image_h * high), 1.0, image_w)
    crop_h = tf.clip_by_value(tf.round(image_w / low), 1.0, image_h)
    return tf.concat(
      [(image_h - crop_h) // 2, (image_w - crop_w) // 2, crop_h, crop_w], axis=-1
    )


class CenterCrop(NamedTuple):
  """The evaluation crop: a central square, `fraction` of the shorter side."""

  side: int
  fraction: float

  def boxes(
    self, uniforms: tf.Tensor, height: tf.Tensor, width: tf.Tensor
  ) -> tf.Tensor:
    """As `RandomCrop.boxes`; the uniforms are not used."""
    del uniforms
    shorter = _float(tf.minimum(height, width))
    extent = tf.maximum(tf.cast(tf.round(shorter * self.fraction), tf.int32), 1)
    top, left = (height - extent) // 2, (width - extent) // 2
    return tf.stack([top, left, extent, extent], axis=-1)


Crop = RandomCrop | CenterCrop


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


def decode_crops(
  encoded: tf.Tensor, crops: tuple[Crop, ...], uniforms: tf.Tensor
) -> tuple[tf.Tensor, ...]:
  """Decodes, crops and resizes one image; of a JPEG only the crop is decoded.

  Args:
    encoded: JPEG or PNG bytes, [] string.
    crops: what to cut.
    uniforms: [len(crops), UNIFORMS] float32.

  Returns:
    A square image for each crop, [S, S, 3] uint8.
  """

  def from_jpeg() -> tuple[tf.Tensor, ...]:
    shape = tf.io.extract_jpeg_shape(encoded)
    out = []
    for crop, numbers in zip(crops, tf.unstack(uniforms, num=len(crops)), strict=True):
      box = crop.boxes(numbers, shape[0], shape[1])
      # The slow, accurate inverse DCT: the fast one is off by several levels.
      image = tf.io.decode_and_crop_jpeg(
        encoded, box, channels=3, dct_method="INTEGER_ACCURATE"
      )
      out.append(resize_image(image, crop.side))
    return tuple(out)

  def from_other() -> tuple[tf.Tensor, ...]:
    whole = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    whole.set_shape([None, None, 3])
    shape = tf.shape(whole)
    out = []
    for crop, numbers in zip(crops, tf.unstack(uniforms, num=len(crops)), strict=True):
      top, left, height, width = tf.unstack(crop.boxes(numbers, shape[0], shape[1]))
      image = whole[top : top + height, left : left + width]
      out.append(resize_image(image, crop.side))
    return tuple(out)

  images = tf.cond(tf.io.is_jpeg(encoded), from_jpeg, from_other)
  for image, crop in zip(images, crops, strict=True):
    image.set_shape([crop.side, crop.side, 3])
  return images


def resize_image(image: tf.Tensor, side: int) -> tf.Tensor:
  """[H, W, 3] uint8 → [side, side, 3] uint8, bilinear with antialiasing."""
  return _to_uint8(tf.image.resize(image, (side, side), antialias=True))


def _float(x: tf.Tensor) -> tf.Tensor:
  return tf.cast(x, tf.float32)


def _to_uint8(x: tf.Tensor) -> tf.Tensor:
  return tf.cast(tf.clip_by_value(tf.round(x), 0.0, 255.0), tf.uint8)
