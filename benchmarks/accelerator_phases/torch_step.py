"""The peer of our steps: MoCo v2 and CLIM in PyTorch; run by a phase, not by hand.

Takes a JSON object of options and prints one of figures. On a GPU as its users have it:
channels_last, autocast to bfloat16, torch.compile. Views are given, on the device; one
group of batch normalisation, keys not shuffled.
"""

import json
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

_STAGES = {
  "resnet_small": (1, 1, 1),
  "resnet18": (2, 2, 2, 2),
  "resnet50": (3, 4, 6, 3),
}
_TEMPERATURE, _MOMENTUM = 0.2, 0.999


class Block(nn.Module):
  """A basic block, or with `expansion` 4 a bottleneck."""

  def __init__(self, channels: int, width: int, stride: int, expansion: int) -> None:
    super().__init__()
    out = width * expansion
    sides = ((3, stride), (3, 1)) if expansion == 1 else ((1, 1), (3, stride), (1, 1))
    widths = (channels, *[width] * (len(sides) - 1), out)
    layers: list[nn.Module] = []
    for (side, step), inputs, outputs in zip(sides, widths, widths[1:], strict=False):
      layers += [_conv(inputs, outputs, side, step), nn.BatchNorm2d(outputs), nn.ReLU()]
    self.layers = nn.Sequential(*layers[:-1])
    self.shortcut: nn.Module = nn.Identity()
    if stride != 1 or channels != out:
      shortcut = _conv(channels, out, 1, stride)
      self.shortcut = nn.Sequential(shortcut, nn.BatchNorm2d(out))

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    return functional.relu(self.layers(x) + self.shortcut(x))


def _conv(inputs: int, outputs: int, side: int, stride: int) -> nn.Conv2d:
  return nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False)


def encoder(options: dict) -> nn.Module:
  """A ResNet and MoCo v2's projection."""
  imagenet, width = options["stem"] == "imagenet", options["width"]
  expansion = 4 if options["backbone"] == "resnet50" else 1
  first = _conv(3, width, 7, 2) if imagenet else _conv(3, width, 3, 1)
  modules: list[nn.Module] = [first, nn.BatchNorm2d(width), nn.ReLU()]
  if imagenet:
    modules.append(nn.MaxPool2d(3, 2, padding=1))
  channels = width
  for stage, blocks in enumerate(_STAGES[options["backbone"]]):
    for index in range(blocks):
      stride = 2 if stage and not index else 1
      modules.append(Block(channels, width * 2**stage, stride, expansion))
      channels = width * 2**stage * expansion
  hidden = options["hidden"]
  modules += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, hidden)]
  return nn.Sequential(*modules, nn.ReLU(), nn.Linear(hidden, 128))


class Step:
  """One update on given views."""

  def __init__(self, options: dict, device: torch.device) -> None:
    self.device, self.on_gpu = device, device.type == "cuda"
    make = lambda: encoder(options).to(device, memory_format=torch.channels_last)  # noqa: E731
    self.query, self.key = make(), make()
    self.key.load_state_dict(self.query.state_dict())
    self.key.requires_grad_(False)
    queue = torch.randn(options["queue"], 128, device=device)
    self.queue = functional.normalize(queue, dim=1)
    self.optimizer = torch.optim.SGD(
      self.query.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4
    )
    encode = torch.compile(self._encode) if self.on_gpu else self._encode
    self.encode = encode

  def _encode(self, network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.autocast(self.device.type, torch.bfloat16, enabled=self.on_gpu):
      projected = network(images)
    return functional.normalize(projected.float(), dim=1)

  def _contrast(self, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    own = (query * keys).sum(dim=1, keepdim=True)
    logits = torch.cat([own, query @ self.queue.T], dim=1) / _TEMPERATURE
    target = torch.zeros(len(query), dtype=torch.long, device=self.device)
    return functional.cross_entropy(logits, target, reduction="none")

  def __call__(self, views: dict) -> torch.Tensor:
    with torch.no_grad():
      mine, theirs = list(self.key.parameters()), list(self.query.parameters())
      torch._foreach_lerp_(mine, theirs, 1 - _MOMENTUM)
      keys = self.encode(self.key, views["key"])
      if views["positives"]:
        positive_keys = self.encode(self.key, views["positive_key"])
    losses = []
    for side, images in enumerate(views["query"]):
      loss = self._contrast(self.encode(self.query, images), keys)
      if views["positives"]:
        mixed, ratio = _cutmix(images, views["positives"][side])
        query = self.encode(self.query, mixed)
        own, other = self._contrast(query, keys), self._contrast(query, positive_keys)
        loss = 0.5 * loss + 0.5 * (ratio * own + (1 - ratio) * other)
      losses.append(loss.mean())
    total = torch.stack(losses).mean()
    self.optimizer.zero_grad()
    total.backward()
    self.optimizer.step()
    self.queue = torch.cat([keys, self.queue[: len(self.queue) - len(keys)]])
    return total.detach()


def _cutmix(
  anchors: torch.Tensor, positives: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
  """A box of its own for every image."""
  count, side = len(anchors), anchors.shape[-1]
  draw = torch.distributions.Beta(2.0, 2.0).sample((count,)).to(anchors.device)
  extent = side * (1 - draw).sqrt()[:, None]
  center = side * torch.rand(count, 2, device=anchors.device)
  low, high = (center - extent / 2).round(), (center + extent / 2).round()
  at = torch.arange(side, device=anchors.device)[None]
  rows = (at >= low[:, :1]) & (at < high[:, :1])
  columns = (at >= low[:, 1:]) & (at < high[:, 1:])
  inside = rows[:, :, None] & columns[:, None, :]
  mixed = torch.where(inside[:, None], positives, anchors)
  return mixed, 1 - inside.float().mean(dim=(1, 2))


def main() -> None:
  options = json.loads(sys.argv[1])
  torch.manual_seed(0)
  torch.backends.cudnn.benchmark = True
  device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
  wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)

  def view(side: int) -> torch.Tensor:
    images = torch.rand(options["batch"], 3, side, side, device=device)
    return images.contiguous(memory_format=torch.channels_last)

  sides = options["sides"]
  views = {"query": [view(s) for s in sides], "key": view(sides[0])}
  views["positives"] = [view(s) for s in sides] if options["positives"] else []
  views["positive_key"] = view(sides[0])
  step, started = Step(options, device), time.perf_counter()
  step(views)
  wait()
  first = time.perf_counter() - started
  for _ in range(2):
    step(views)
  wait()
  started = time.perf_counter()
  for _ in range(options["steps"]):
    loss = step(views)
  wait()
  seconds = (time.perf_counter() - started) / options["steps"]
  assert np.isfinite(loss.item())
  memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
  figures = {
    "torch": torch.__version__,
    "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    "batch": options["batch"],
    "dtype": "bfloat16" if device.type == "cuda" else "float32",
    "first_step_seconds": first,
    "milliseconds": 1e3 * seconds,
    "images_per_second": options["batch"] / seconds,
    "peak_memory_gib": memory and memory / 2**30,
  }
  print(json.dumps(figures))


if __name__ == "__main__":
  main()
