"""Where to crop: boxes as a function of uniform numbers.

Randomness comes in as uniform numbers, so every function here is a plain map. `boxes`
has the same rules in TensorFlow, for images whose size is not known before they are
read.
"""

import math
from typing import NamedTuple

import numpy as np

TRIES = 10
# Added to a level before its fraction is cut off. Many lie half-way between two and go
# up, as PIL has it; the excess over a half outweighs the error of float32 sums, so that
# they do so in whatever order a device takes sums.
ROUNDING = 0.5 + 1 / 512
UNIFORMS = 2 * TRIES + 2  # numbers in [0, 1) that one random crop consumes


class RandomCrop(NamedTuple):
  """RandomResizedCrop: a random area and aspect ratio, resized to a square."""

  side: int
  scale: tuple[float, float]  # share of the image's area
  aspect_ratio: tuple[float, float]  # width / height

  def boxes(self, uniforms: np.ndarray, height: int, width: int) -> np.ndarray:
    """[..., UNIFORMS] → (top, left, height, width), [..., 4] int32.

    The first of ten tries that fits the image is taken; if none does, the
    largest central crop within the aspect ratios, as torchvision does.

    Args:
      uniforms: in [0, 1), float32.
      height, width: of all images.
    """
    low, high = self.scale
    area = height * width * (low + (high - low) * uniforms[..., :TRIES])
    log_low, log_high = (math.log(limit) for limit in self.aspect_ratio)
    log_ratio = log_low + (log_high - log_low) * uniforms[..., TRIES : 2 * TRIES]
    ratio = np.exp(log_ratio)
    tries_w, tries_h = np.round(np.sqrt(area * ratio)), np.round(np.sqrt(area / ratio))
    fits = (tries_w >= 1) & (tries_w <= width) & (tries_h >= 1) & (tries_h <= height)
    first = np.argmax(fits, axis=-1, keepdims=True)
    crop_h, crop_w = (np.take_along_axis(x, first, -1) for x in (tries_h, tries_w))
    top = np.floor(uniforms[..., -2:-1] * (height - crop_h + 1))
    left = np.floor(uniforms[..., -1:] * (width - crop_w + 1))
    box = np.concatenate([top, left, crop_h, crop_w], axis=-1)
    any_fits = np.any(fits, axis=-1, keepdims=True)
    return np.where(any_fits, box, self._central(height, width)).astype(np.int32)

  def _central(self, height: int, width: int) -> tuple[int, int, int, int]:
    low, high = np.float32(self.aspect_ratio)
    crop_w = min(max(round(height * high), 1), width)
    crop_h = min(max(round(width / low), 1), height)
    return (height - crop_h) // 2, (width - crop_w) // 2, crop_h, crop_w


class CenterCrop(NamedTuple):
  """The evaluation crop: a central square, `fraction` of the shorter side."""

  side: int
  fraction: float

  def boxes(self, uniforms: np.ndarray, height: int, width: int) -> np.ndarray:
    """As `RandomCrop.boxes`; the uniforms are not used."""
    extent = max(round(min(height, width) * np.float32(self.fraction)), 1)
    box = (height - extent) // 2, (width - extent) // 2, extent, extent
    return np.broadcast_to(np.int32(box), (*uniforms.shape[:-1], 4))


Crop = RandomCrop | CenterCrop
