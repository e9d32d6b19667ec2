"""How many pixels an image file says it has: told by its head, before it is decoded.

A file of some kilobytes may unfold to gigabytes.
"""

import struct

MOST_PIXELS = 178_956_970  # Pillow's own bound
PNG = b"\x89PNG"


def check_size(height: int, width: int, max_pixels: int) -> None:
  """Raises ValueError for an image that is too large to be decoded."""
  if height * width > max_pixels:
    raise ValueError(
      f"{height} × {width} pixels are more than data.max_pixels={max_pixels}: make it "
      "smaller or cut it up" + ", or raise the key" * (height * width <= MOST_PIXELS)
    )


def png_size(encoded: bytes) -> tuple[int, int]:
  """Height and width of a PNG; zeros where its head is cut off."""
  if len(encoded) < 24:
    return 0, 0
  width, height = struct.unpack_from(">II", encoded, 16)
  return height, width
