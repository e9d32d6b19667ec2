"""All small pictures of a page as one, each at its place."""

import base64
import io
import math
from collections.abc import Iterable

import jax
import numpy as np
from PIL import Image

from clim_jax import sharding
from clim_jax.data.batches import evaluation_batches
from clim_jax.data.crops import CenterCrop
from clim_jax.data.source import Source

MOST_PIXELS = 64  # of a tile's side
_QUALITY = 72
_BATCH = 64


class Sprite:
  """Collects what is to be shown; the pictures are read once, at the end."""

  def __init__(self, side: int) -> None:
    self.side = min(side, MOST_PIXELS)
    self._places: dict[tuple[str, int], int] = {}  # of an image of a part
    self._extra: dict[int, np.ndarray] = {}

  def __len__(self) -> int:
    return len(self._places) + len(self._extra)

  def place(self, part: str, image: int) -> int:
    """The number of the tile of an image of a part; one that is new has the next."""
    return self._places.setdefault((part, int(image)), len(self))

  def add(self, pixels: np.ndarray) -> int:
    """The number of a tile of its own, [S, S, 3] uint8."""
    number = len(self)
    self._extra[number] = pixels
    return number

  @property
  def columns(self) -> int:
    return max(1, math.ceil(math.sqrt(len(self))))

  def draw(self, parts: dict[str, Source], fraction: float) -> str:
    """A data URI of all tiles, row by row.

    Args:
      parts: the images by the name of their part.
      fraction: of an image's shorter side that is shown.

    Raises:
      BadImageError: an image cannot be decoded and is not to be skipped.
    """
    side, columns = self.side, self.columns
    height = -(-len(self) // columns) * side
    canvas = np.zeros((max(height, 1), columns * side, 3), np.uint8)
    for number, pixels in self._tiles(parts, CenterCrop(side, fraction)):
      row, column = divmod(number, columns)
      canvas[row * side :, column * side :][:side, :side] = pixels
    file = io.BytesIO()
    Image.fromarray(canvas).save(file, "webp", quality=_QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()

  def _tiles(
    self, parts: dict[str, Source], crop: CenterCrop
  ) -> Iterable[tuple[int, np.ndarray]]:
    for number, pixels in self._extra.items():
      picture = Image.fromarray(pixels).resize((crop.side, crop.side))
      yield number, np.asarray(picture)
    for part, source in parts.items():
      own = [
        (image, number) for (p, image), number in self._places.items() if p == part
      ]
      if not own:
        continue
      images, numbers = np.array(own).T
      filling = -len(images) % _BATCH
      ids = np.append(images, np.repeat(images[-1:], filling)).reshape(-1, _BATCH)
      mesh = sharding.make_mesh(jax.local_devices()[:1])
      batches = map(np.asarray, evaluation_batches(mesh, source, ids, crop))
      yield from zip(numbers.tolist(), (x for b in batches for x in b), strict=False)
