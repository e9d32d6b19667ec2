"""JPEGs with the statistics of photographs, for benchmarks without a data set."""

import pathlib

import numpy as np
from PIL import Image

from benchmarks.measurement import progress

_SHAPES = ((375, 500), (500, 375), (333, 500), (500, 500))  # height, width
_QUALITY = 88


def write_jpegs(folder: pathlib.Path, count: int) -> None:
  """Writes `count` images of a longer side of 500 px; about 117 kB each."""
  progress(f"writing {count} JPEGs")
  rng = np.random.default_rng(0)
  folder.mkdir(parents=True)
  for number in range(count):
    pixels = _natural(rng, *_SHAPES[number % len(_SHAPES)])
    Image.fromarray(pixels).save(folder / f"{number:05}.jpg", quality=_QUALITY)


def _natural(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
  """Random phases under an amplitude that falls as 1 / frequency, as in nature."""
  frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
  frequency[0, 0] = 1.0

  def field(exponent: float) -> np.ndarray:
    phase = np.exp(2j * np.pi * rng.random(frequency.shape))
    values = np.fft.irfft2(phase / frequency**exponent, (height, width))
    return values / values.std()

  luminance = 118 + 55 * field(1.0)
  channels = [luminance + 20 * field(1.3) for _ in range(3)]  # chroma is smoother
  return np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8)
