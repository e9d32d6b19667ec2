"""How well a check tells near copies from other images: near_copies.py FOLDER.

For a folder of photographs without copies: how many pairs look nearly the same though
they are not, and which share of changed images is found.
"""

import argparse
import io
import pathlib
import tempfile
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance

from clim_jax.data.sight import Sight, look
from clim_jax.data.sources import folder_source
from clim_jax.sets.copies import NEAR, near_copies

_SAMPLE = 400  # images that are changed
Change = Callable[[Image.Image], Image.Image]


def _compressed(image: Image.Image) -> Image.Image:
  content = io.BytesIO()
  image.save(content, "JPEG", quality=30)
  return Image.open(content).convert("RGB")


def _trimmed(share: float) -> Change:
  def trim(image: Image.Image) -> Image.Image:
    x, y = round(image.width * share / 2), round(image.height * share / 2)
    return image.crop((x, y, image.width - x, image.height - y))

  return trim


CHANGES: dict[str, Change] = {
  "JPEG of quality 30": _compressed,
  "half as large": lambda image: image.resize((image.width // 2, image.height // 2)),
  "1.3 times as bright": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
  "0.8 of the contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
  "4% trimmed": _trimmed(0.04),
  "8% trimmed": _trimmed(0.08),
  "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def _sights(folder: str) -> list[Sight]:
  source, _ = folder_source(folder)
  return [look(source, image) for image in range(source.num_images)]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("folder")
  sights = _sights(parser.parse_args().folder)
  pairs = near_copies(sights, [])
  print(f"{len(sights)} images, pairs with a cosine of {NEAR} or more: {len(pairs)}")
  for one, other, cosine in pairs:
    print(f"  {cosine:.3f} {sights[one].name} {sights[other].name}")
  chosen = np.random.default_rng(0).permutation(len(sights))[:_SAMPLE]
  for what, change in CHANGES.items():
    with tempfile.TemporaryDirectory() as folder:
      for number, place in enumerate(chosen):
        image = Image.open(sights[place].name).convert("RGB")
        change(image).save(pathlib.Path(folder) / f"{number:04}.png")
      changed = _sights(folder)
    both = [sights[place] for place in chosen] + changed
    near = {(one, other) for one, other, _ in near_copies(both, [])}
    found = sum((row, row + len(chosen)) in near for row in range(len(chosen)))
    print(f"{found / len(chosen):7.1%} found of those {what}")


if __name__ == "__main__":
  main()
