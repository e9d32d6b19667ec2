"""Why a run waits for its input: what one image costs, stage by stage."""

import functools
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import joblib
import numpy as np
import tensorflow as tf

from clim_jax.data.boxes import boxes
from clim_jax.data.crops import UNIFORMS, RandomCrop
from clim_jax.data.cuts import ViewPlan
from clim_jax.data.decode import decode_crops
from clim_jax.data.resize import resize_crops
from clim_jax.data.source import ArraySource, Source

_SAMPLE = 32  # images
_SMALLER = "have fewer or smaller views.sides"
_MENDS = {
  "read": "bring data.path nearer (a local disk, a bucket of the same region)",
  "decode and crop": f"store smaller images, {_SMALLER}, or more CPU cores a device",
  "crop": f"{_SMALLER}, or more CPU cores a device",
  "copy to the device": f"{_SMALLER}, or a smaller batch_size",
}


class StageSeconds(NamedTuple):
  """Of one image on one core."""

  read: float  # 0 for arrays, which are in memory
  decode_and_crop: float
  copy_to_the_device: float

  def advice(self, wait_fraction: float) -> str:
    """One line: how long the run waited, for what, and which key to turn."""
    read, crop, copy = self
    stages = {"read": read, "decode and crop": crop} if read else {"crop": crop}
    stages["copy to the device"] = copy
    figures = ", ".join(f"{name} {1e3 * s:.2f} ms" for name, s in stages.items())
    slowest = max(stages, key=stages.get)
    return (
      f"waiting for data {wait_fraction:.0%} of the time; an image takes {figures}, "
      f"and {joblib.cpu_count()} cores may be used: {_MENDS[slowest]}"
    )


def measure_stages(source: Source, plan: ViewPlan) -> StageSeconds:
  """Times a few images of `source`, each with the crops of an anchor."""
  rng = np.random.default_rng(0)
  count = min(_SAMPLE, source.num_images)
  ids = rng.choice(source.num_images, count, replace=False)
  crops = (*plan.crops, plan.crops[0])
  numbers = rng.random((count, len(crops), UNIFORMS), np.float32)
  with tf.device("CPU"):
    started = time.perf_counter()
    is_array = isinstance(source, ArraySource)
    if is_array:
      images, numbers, cut = [source.images[ids]], [numbers], _cut_arrays
    else:
      images = [source.load(one) for one in source.fetch(tf.constant(ids))]
      cut = decode_crops
    read = time.perf_counter()
    cut = tf.function(functools.partial(cut, crops=crops), autograph=False)
    cut(images[0], uniforms=numbers[0])  # traces
    traced = time.perf_counter()
    out = [cut(image, uniforms=u) for image, u in zip(images, numbers, strict=True)]
  cropped = time.perf_counter()
  jax.block_until_ready(jax.device_put([[x.numpy() for x in row] for row in out]))
  copied = time.perf_counter()
  reading = 0.0 if is_array else read - started
  seconds = (reading, cropped - traced, copied - cropped)
  return StageSeconds(*(each / count for each in seconds))


def _cut_arrays(
  images: tf.Tensor, crops: Sequence[RandomCrop], uniforms: tf.Tensor
) -> list[tf.Tensor]:
  height = tf.fill(images.shape[:1], images.shape[1])
  width = tf.fill(images.shape[:1], images.shape[2])
  return [
    resize_crops(images, boxes(crop, uniforms[:, slot], height, width), crop.side)
    for slot, crop in enumerate(crops)
  ]
