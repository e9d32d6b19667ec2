"""One image, looked at as a whole: what it is, and what tells it from others."""

import hashlib
import io
import os
import warnings
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from clim_jax.data.decode import decode_whole
from clim_jax.data.encoded import ReadError, fault_of
from clim_jax.data.orientation import UPRIGHT, read_orientation, turn_upright
from clim_jax.data.source import ArraySource, Source

THUMBNAIL_SIDE = 16
# Pillow's names of formats that are kinds of those that files are called after.
_FAMILY = {"MPO": "JPEG", "DIB": "BMP"}


class Sight(NamedTuple):
  """What there is to say of an image; of a broken one only its fault."""

  name: str
  fault: str = ""
  format: str = ""  # as its bytes say
  called: str = ""  # the format that its extension says; "" where that says none
  mode: str = ""  # Pillow's: L, RGB, CMYK, …
  height: int = 0  # pixels, upright
  width: int = 0
  is_grey: bool = False
  bytes_digest: bytes = b""
  pixels_digest: bytes = b""
  # Grey levels of the upright image, [THUMBNAIL_SIDE, THUMBNAIL_SIDE] float32.
  thumbnail: np.ndarray | None = None


def look(source: Source, image: int) -> Sight:
  """Reads an image whole, once, and decodes it as training does."""
  name = source.name(image)
  if isinstance(source, ArraySource):
    pixels = source.images[image]
    seen = _of_pixels(name, pixels)
    return seen._replace(format="array", mode="RGB", bytes_digest=seen.pixels_digest)
  try:
    encoded = source.encoded(image)
    pixels = decode_whole(encoded, source.max_pixels).numpy()
    content = encoded.numpy()
    form, mode = _kind(content)
  except (ValueError, OSError, ReadError) as error:
    return Sight(name, fault_of(error))
  orientation = read_orientation(content) if form == "JPEG" else UPRIGHT
  seen = _of_pixels(name, pixels, orientation)
  return seen._replace(
    format=form,
    called=_called(name),
    mode=mode,
    bytes_digest=_digest(content),
  )


def _of_pixels(name: str, pixels: np.ndarray, orientation: int = UPRIGHT) -> Sight:
  """Of pixels as they are stored, [H, W, 3] uint8."""
  side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
  grey = Image.fromarray(pixels).convert("F").resize(side, Image.Resampling.BOX)
  height, width = pixels.shape[:2]
  thumbnail = np.asarray(grey)
  if orientation != UPRIGHT:
    turned = turn_upright((thumbnail[..., None],), tf.constant(orientation))
    thumbnail = turned[0].numpy()[..., 0]
    height, width = (width, height) if orientation > 4 else (height, width)
  first = pixels[..., :1]
  return Sight(
    name,
    height=height,
    width=width,
    is_grey=bool((pixels == first).all()),
    pixels_digest=_digest(repr(pixels.shape).encode(), np.ascontiguousarray(pixels)),
    thumbnail=thumbnail,
  )


def _kind(content: bytes) -> tuple[str, str]:
  """Format and mode, from the head of a file."""
  with warnings.catch_warnings():  # of sizes, which training does not heed
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    with Image.open(io.BytesIO(content)) as image:
      return _FAMILY.get(image.format, image.format), image.mode


def _called(name: str) -> str:
  form = Image.registered_extensions().get(os.path.splitext(name)[1].lower(), "")
  return _FAMILY.get(form, form)


def _digest(*parts: bytes | np.ndarray) -> bytes:
  digest = hashlib.blake2b(digest_size=16)
  for part in parts:
    digest.update(part)
  return digest.digest()
