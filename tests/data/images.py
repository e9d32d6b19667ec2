"""Images that name themselves: every pixel of image i has its id as its level."""

import numpy as np
import tensorflow as tf

from clim_jax.data.crops import UNIFORMS
from clim_jax.data.pipeline import crop_batches
from clim_jax.data.source import ArraySource


def constant_images(count, *, height=9, width=7):
  levels = np.arange(count, dtype=np.uint8)[:, None, None, None]
  return np.broadcast_to(levels, (count, height, width, 3)).copy()


def constant_source(count):
  return ArraySource(constant_images(count), None)


def write_png(path, image):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(tf.io.encode_png(image).numpy())


def write_jpeg(path, image, quality=95):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(tf.io.encode_jpeg(image, quality=quality).numpy())


def host_batches(source, ids, crop, rows):
  """These rows of the evaluation crops of `ids`, [turns, B] → [b, S, S, 3]."""
  nothing = np.zeros((rows.stop - rows.start, UNIFORMS), np.float32)
  turns = ((turn[rows], nothing) for turn in ids)
  return crop_batches(source, turns, crop, len(nothing))
