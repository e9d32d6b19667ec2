"""The peer of train_step.py: MoCo v2's step in PyTorch; run by it, not by hand.

Prints "ready", then for every line read a JSON object with the seconds of a step.
"""

import argparse
import json
import sys
import time

import torch
import torchvision
from torch import nn
from torch.nn import functional

_QUEUE, _TEMPERATURE, _MOMENTUM = 4096, 0.2, 0.999


def encoder() -> nn.Module:
  """ResNet-18 with the stem for 32 px and MoCo v2's projection."""
  net = torchvision.models.resnet18()
  net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
  net.maxpool = nn.Identity()
  net.fc = nn.Sequential(nn.Linear(512, 2048), nn.ReLU(), nn.Linear(2048, 128))
  return net.to(memory_format=torch.channels_last)


class Step:
  """One update on two given views: no augmentation, no input."""

  def __init__(self, *, compiled: bool) -> None:
    self.query, self.key = encoder(), encoder()
    self.key.load_state_dict(self.query.state_dict())
    self.key.requires_grad_(False)
    self.queue = functional.normalize(torch.randn(_QUEUE, 128), dim=1)
    self.optimizer = torch.optim.SGD(
      self.query.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4
    )
    self.loss = torch.compile(self._loss) if compiled else self._loss
    self.encode_key = torch.compile(self._keys) if compiled else self._keys

  def _keys(self, images: torch.Tensor) -> torch.Tensor:
    return functional.normalize(self.key(images), dim=1)

  def _loss(
    self, images: torch.Tensor, keys: torch.Tensor, queue: torch.Tensor
  ) -> torch.Tensor:
    query = functional.normalize(self.query(images), dim=1)
    own = (query * keys).sum(dim=1, keepdim=True)
    logits = torch.cat([own, query @ queue.T], dim=1) / _TEMPERATURE
    return functional.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long))

  def __call__(self, images: torch.Tensor, key_images: torch.Tensor) -> float:
    with torch.no_grad():
      pairs = zip(self.key.parameters(), self.query.parameters(), strict=True)
      for key, query in pairs:
        key.lerp_(query, 1 - _MOMENTUM)
      keys = self.encode_key(key_images)
    loss = self.loss(images, keys, self.queue)
    self.optimizer.zero_grad()
    loss.backward()
    self.optimizer.step()
    self.queue = torch.cat([keys, self.queue[: -len(keys)]])
    return loss.item()


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--batch", type=int, required=True)
  parser.add_argument("--threads", type=int, required=True)
  parser.add_argument("--compile", action="store_true")
  options = parser.parse_args()
  torch.set_num_threads(options.threads)
  torch.manual_seed(0)
  step = Step(compiled=options.compile)
  views = [
    torch.rand(options.batch, 3, 32, 32).to(memory_format=torch.channels_last)
    for _ in range(2)
  ]
  step(*views)
  print("ready", flush=True)
  for _ in sys.stdin:
    start = time.perf_counter()
    step(*views)
    print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
  main()
