"""Real pictures, and those of PIL beside float images."""

import functools

import numpy as np
from PIL import Image
from skimage import data

LEVEL = 1 / 255  # one step of PIL's uint8
ROUNDING = 2e-6  # float32 against float64 over a handful of operations


@functools.cache
def pictures():
  """[3, 64, 64, 3] float32; they ship inside scikit-image: nothing is downloaded."""
  shipped = [data.astronaut(), data.chelsea(), data.coffee()]
  return np.stack(
    [floats(Image.fromarray(picture).resize((64, 64))) for picture in shipped]
  )


def levels(images):
  return np.rint(np.asarray(images) * 255).astype(np.uint8)


def pil(image):
  return Image.fromarray(levels(image))


def floats(picture):
  return np.asarray(picture, np.float32) / 255
