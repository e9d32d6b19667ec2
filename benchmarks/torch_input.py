"""The peer of input.py: a DataLoader with torchvision; run by it, not by hand.

Prints "ready", then for every line read a JSON object with the seconds of some batches,
after others that were ready before.
"""

import argparse
import json
import pathlib
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch.utils.data import DataLoader, Dataset
from torchvision import io, transforms
from torchvision.transforms import v2

_PREFETCH = 2  # batches a worker


def _crop(side: int, mode: str) -> Callable[[Any], torch.Tensor]:
  """One view: MoCo v2's recipe, or its crop alone by PIL or on tensors."""
  if mode == "crops_tensor":
    return v2.RandomResizedCrop(side, (0.2, 1.0), antialias=True)
  crop = transforms.RandomResizedCrop(side, (0.2, 1.0))
  if mode == "crops_pil":
    return transforms.Compose([crop, transforms.PILToTensor()])
  jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
  return transforms.Compose(
    [
      crop,
      transforms.RandomApply([jitter], 0.8),
      transforms.RandomGrayscale(0.2),
      transforms.RandomApply([_blur] * (side > 32), 0.5),
      transforms.RandomHorizontalFlip(),
      transforms.ToTensor(),
      transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
  )


def _blur(image: Image.Image) -> Image.Image:
  """As MoCo's own loader blurs."""
  return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


class Views(Dataset):
  """All crops of an anchor, and of another image with `positive`."""

  def __init__(self, data: str, sides: list[int], mode: str, *, positive: bool) -> None:
    self._tensors, self._positive = mode == "crops_tensor", positive
    self._crops = [_crop(side, mode) for side in (*sides, sides[0])]
    path = pathlib.Path(data)
    self._items = np.load(path)["image"] if path.is_file() else sorted(path.iterdir())

  def __len__(self) -> int:
    return len(self._items)

  def __getitem__(self, index: int) -> list[torch.Tensor]:
    images = [self._image(index)]
    if self._positive:
      images.append(self._image(random.randrange(len(self))))
    return [crop(image) for image in images for crop in self._crops]

  def _image(self, index: int) -> Any:
    item = self._items[index]
    if isinstance(item, pathlib.Path):
      if self._tensors:
        return io.decode_image(str(item), mode="RGB")
      return Image.open(item).convert("RGB")
    return (
      torch.from_numpy(item).permute(2, 0, 1)
      if self._tensors
      else Image.fromarray(item)
    )


def _endless(loader: DataLoader) -> Iterator[list[torch.Tensor]]:
  while True:
    yield from loader


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--data", required=True)
  parser.add_argument("--mode", required=True)
  parser.add_argument("--sides", type=int, nargs="+", required=True)
  parser.add_argument("--positive", action="store_true")
  parser.add_argument("--batch", type=int, required=True)
  parser.add_argument("--batches", type=int, required=True)
  parser.add_argument("--workers", type=int, required=True)
  options = parser.parse_args()
  torch.set_num_threads(1)
  loader = DataLoader(
    Views(options.data, options.sides, options.mode, positive=options.positive),
    options.batch,
    shuffle=True,
    drop_last=True,
    num_workers=options.workers,
    prefetch_factor=_PREFETCH,
    persistent_workers=True,
  )
  batches = _endless(loader)
  next(batches)
  print("ready", flush=True)
  for _ in sys.stdin:
    for _ in range(_PREFETCH * options.workers):
      next(batches)
    start = time.perf_counter()
    for _ in range(options.batches):
      next(batches)
    print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
  main()
