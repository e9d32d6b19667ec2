"""MoCo v2 of lightly's own parts; run by ablation_lightly.py in the peers' environment.

  peer_lightly.py OPTIONS.json

Views, projection, loss with its memory bank and the moving average are lightly's; the
backbone is that of torch_step.py, the optimiser and its schedule are PyTorch's. Keys
are not shuffled: on one device batch normalisation sees the whole batch in any order.
"""

import copy
import json
import pathlib
import sys
import time
from typing import Any

import numpy as np
import torch
import torch_step
from lightly.loss import NTXentLoss
from lightly.models.modules import MoCoProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.transforms import MoCoV2Transform
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

_LOG_EVERY = 100  # steps
_ENCODED_AT_ONCE = 250  # images


class Views(Dataset):
  """Of every image two, [3, S, S] float32 each."""

  def __init__(self, images: np.ndarray, transform: MoCoV2Transform) -> None:
    self._images, self._transform = images, transform

  def __len__(self) -> int:
    return len(self._images)

  def __getitem__(self, index: int) -> list[torch.Tensor]:
    # As a PIL image: of 32 pixels these take half the time of tensors.
    return self._transform(Image.fromarray(self._images[index]))


def make_query(options: dict[str, Any]) -> nn.Sequential:
  """Backbone and projection."""
  backbone = torch_step.backbone(options["layers"], options["stem"], options["width"])
  features = options["width"] * 2 ** (len(options["layers"]) - 1)
  head = MoCoProjectionHead(features, options["hidden_dim"], options["embedding_dim"])
  return nn.Sequential(backbone, head)


def make_optimizer(
  query: nn.Module, options: dict[str, Any]
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
  optimizer = torch.optim.SGD(
    query.parameters(),
    lr=options["learning_rate"],
    momentum=options["sgd_momentum"],
    weight_decay=options["weight_decay"],
  )
  steps = options["steps"]
  return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)


def pretrain(images: np.ndarray, options: dict[str, Any]) -> nn.Sequential:
  """Backbone and projection after all steps; a line in the log every so many."""
  query = make_query(options)
  key = copy.deepcopy(query)
  deactivate_requires_grad(key)
  size = options["queue_size"], options["embedding_dim"]
  criterion = NTXentLoss(options["temperature"], memory_bank_size=size)
  optimizer, schedule = make_optimizer(query, options)
  loader = DataLoader(
    Views(images, MoCoV2Transform(**options["transform"])),
    options["batch_size"],
    shuffle=True,
    drop_last=True,
  )
  step, began = 0, time.monotonic()
  with open(options["log"], "w") as log:
    while step < options["steps"]:
      for batch in loader:
        query_view, key_view = (
          view.contiguous(memory_format=torch.channels_last) for view in batch
        )
        update_momentum(query, key, m=options["key_momentum"])
        loss = criterion(query(query_view), key(key_view))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        step += 1
        if step % _LOG_EVERY in (0, 1) or step == options["steps"]:
          seconds = round(time.monotonic() - began, 1)
          record = {"step": step, "loss": loss.item(), "seconds": seconds}
          print(json.dumps(record), file=log, flush=True)
        if step == options["steps"]:
          break
  return query


@torch.no_grad()
def embed(
  backbone: nn.Module, images: np.ndarray, normalize: dict[str, list[float]]
) -> np.ndarray:
  """Pooled features in evaluation mode of whole images, [N, F] float32."""
  backbone.eval()
  mean, std = (torch.tensor(normalize[key])[:, None, None] for key in ("mean", "std"))
  parts = torch.from_numpy(images).permute(0, 3, 1, 2).split(_ENCODED_AT_ONCE)
  found = [backbone((part.float() / 255.0 - mean) / std) for part in parts]
  return torch.cat(found).numpy()


def main() -> None:
  options = json.loads(pathlib.Path(sys.argv[1]).read_text())
  torch.set_num_threads(1)  # as a cell of the grid has one core
  torch.manual_seed(options["seed"])
  train, test = (np.load(options[part])["image"] for part in ("train", "test"))
  query = pretrain(train, options)
  normalize = options["transform"]["normalize"]
  np.savez(
    options["output"],
    train=embed(query[0], train, normalize),
    test=embed(query[0], test, normalize),
    parameters=sum(weights.numel() for weights in query.parameters()),
  )


if __name__ == "__main__":
  main()
