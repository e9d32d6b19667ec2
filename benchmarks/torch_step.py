"""The peer of train_step.py: MoCo v2's step in PyTorch; run by it, not by hand.

Prints "ready", then for every line read a JSON object with the seconds of a step.
"""

import argparse
import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock

_TEMPERATURE, _MOMENTUM = 0.2, 0.999


def backbone(layers: list[int], stem: str, width: int) -> nn.Sequential:
  """A ResNet of basic blocks to pooled features, [B, width · 2^(stages − 1)]."""
  side, stride = (7, 2) if stem == "imagenet" else (3, 1)
  first = nn.Conv2d(3, width, side, stride, padding=side // 2, bias=False)
  modules: list[nn.Module] = [first, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
  if stem == "imagenet":
    modules.append(nn.MaxPool2d(3, 2, padding=1))
  channels = width
  for stage, blocks in enumerate(layers):
    for index in range(blocks):
      stride, out = (2 if stage and not index else 1), width * 2**stage
      projection = None
      if out != channels:
        shortcut = nn.Conv2d(channels, out, 1, stride, bias=False)
        projection = nn.Sequential(shortcut, nn.BatchNorm2d(out))
      modules.append(BasicBlock(channels, out, stride, projection))
      channels = out
  net = nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten())
  for module in net.modules():
    if isinstance(module, nn.Conv2d):  # as torchvision's ResNets begin, and ours
      nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
  return net.to(memory_format=torch.channels_last)


def encoder(layers: list[int], stem: str, width: int, hidden: int) -> nn.Module:
  """The ResNet, and MoCo v2's projection."""
  features = width * 2 ** (len(layers) - 1)
  head = nn.Linear(features, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, 128)
  return nn.Sequential(*backbone(layers, stem, width), *head)


class Step:
  """One update on two given views: no augmentation, no input."""

  def __init__(self, options: argparse.Namespace) -> None:
    shape = (options.layers, options.stem, options.width, options.hidden)
    self.query, self.key = encoder(*shape), encoder(*shape)
    self.key.load_state_dict(self.query.state_dict())
    self.key.requires_grad_(False)
    self.queue = functional.normalize(torch.randn(options.queue, 128), dim=1)
    self.optimizer = torch.optim.SGD(
      self.query.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4
    )
    self.loss = torch.compile(self._loss) if options.compile else self._loss
    self.encode_key = torch.compile(self._keys) if options.compile else self._keys

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
  parser.add_argument("--layers", type=int, nargs="+", required=True)
  parser.add_argument("--stem", choices=("imagenet", "cifar"), required=True)
  for name in ("width", "hidden", "side", "queue"):
    parser.add_argument(f"--{name}", type=int, required=True)
  parser.add_argument("--threads", type=int, required=True)
  parser.add_argument("--compile", action="store_true")
  options = parser.parse_args()
  torch.set_num_threads(options.threads)
  torch.manual_seed(0)
  step = Step(options)
  shape = (options.batch, 3, options.side, options.side)
  views = [torch.rand(shape).to(memory_format=torch.channels_last) for _ in range(2)]
  step(*views)
  print("ready", flush=True)
  for _ in sys.stdin:
    start = time.perf_counter()
    step(*views)
    print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
  main()
