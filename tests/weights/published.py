"""Files of other projects, built from the names of those they published.

Each takes a ResNet-50 of width 4 under torchvision's names, and a projection as MoCo
v2's head, and returns what `torch.save` was given.
"""

import argparse

import numpy as np
from networks import DIM

from clim_jax.weights.formats.transformers import transformers_name

FEATURES = 8 * 4 * 4  # of a ResNet-50 of width 4


def linear(name, inputs, outputs, *, bias=True):
  """As torch.nn.Linear's state; ones will do, for no one is to look at them."""
  state = {f"{name}.weight": np.ones((outputs, inputs), np.float32)}
  return state | ({f"{name}.bias": np.ones(outputs, np.float32)} if bias else {})


def norm(name, channels):
  leaves = ("weight", "bias", "running_mean", "running_var")
  state = {f"{name}.{leaf}": np.ones(channels, np.float32) for leaf in leaves}
  return state | {f"{name}.num_batches_tracked": np.array(7)}


def prefixed(prefix, tensors):
  return {prefix + name: tensor for name, tensor in tensors.items()}


def doubled(tensors):
  """Other weights, as those of the network that must not be taken."""
  return {name: np.asarray(2 * tensor) for name, tensor in tensors.items()}


def moco(backbone, head):
  query = prefixed("module.encoder_q.", backbone | head)
  key = prefixed("module.encoder_k.", doubled(backbone) | head)
  queue = {"module.queue": np.ones((DIM, 6), np.float32)}
  queue["module.queue_ptr"] = np.zeros(1, np.int64)
  return {"epoch": 200, "arch": "resnet50", "state_dict": query | key | queue}


def moco_v1(backbone, _):
  return moco(backbone, linear("fc", FEATURES, DIM))


def moco_v2(backbone, projection):
  return moco(backbone, projection)


def moco_v3(backbone, _):
  mlp = linear("fc.0", FEATURES, 16, bias=False) | norm("fc.1", 16)
  mlp |= linear("fc.3", 16, DIM, bias=False)
  base = prefixed("module.base_encoder.", backbone | mlp)
  momentum = prefixed("module.momentum_encoder.", doubled(backbone) | mlp)
  predictor = linear("module.predictor.0", DIM, 16, bias=False)
  return {"state_dict": base | momentum | predictor, "scaler": {}}


def swav(backbone, _):
  head = linear("projection_head.0", FEATURES, 16) | norm("projection_head.1", 16)
  head |= linear("projection_head.3", 16, DIM)
  head |= linear("prototypes", DIM, 30, bias=False)
  return prefixed("module.", backbone | head)


def dino(backbone, _):
  head = linear("module.head.mlp.0", FEATURES, 16) | {
    "module.head.last_layer.weight_g": np.ones((30, 1), np.float32),
    "module.head.last_layer.weight_v": np.ones((30, 8), np.float32),
  }
  return {
    "student": prefixed("module.backbone.", doubled(backbone)) | head,
    "teacher": prefixed("module.backbone.", backbone) | head,
    "optimizer": {"state": {}, "param_groups": []},
    "args": argparse.Namespace(arch="resnet50"),
    "dino_loss": {"center": np.zeros((1, 30), np.float32)},
  }


def dino_of_one_device(backbone, _):
  head = linear("head.mlp.0", FEATURES, 16)
  return {"teacher": prefixed("backbone.", backbone) | head}


def barlow(backbone, _):
  projector = linear("module.projector.0", FEATURES, 16, bias=False)
  projector |= norm("module.projector.1", 16)
  bn = {"module.bn.running_mean": np.zeros(16, np.float32)}
  model = prefixed("module.backbone.", backbone) | projector | bn
  return {"epoch": 300, "model": model, "optimizer": {}}


def backbone_alone(backbone, _):  # DINO's and Barlow Twins' resnet50.pth
  return backbone


def torchvision(backbone, _):
  return backbone | linear("fc", FEATURES, 1000)


def old_torchvision(backbone, _):  # before batches were counted
  return {n: t for n, t in backbone.items() if "num_batches" not in n}


def transformers(backbone, _):
  return {transformers_name(name): tensor for name, tensor in backbone.items()}


def transformers_classifier(backbone, _):
  classifier = linear("classifier.1", FEATURES, 1000)
  return prefixed("resnet.", transformers(backbone, _)) | classifier


FILES = {  # of whom, and how many names are of no use here besides
  moco_v1: ("MoCo v1 or PCL v1", 2 + (5 * 53 + 2) + 2),
  moco_v2: ("MoCo v2 or PCL v2", (5 * 53 + 4) + 2),
  moco_v3: ("MoCo v3", 6 + (5 * 53 + 6) + 1),
  swav: ("SwAV", 9),
  dino: ("DINO", 4),
  dino_of_one_device: ("DINO", 2),
  barlow: ("Barlow Twins", 6),
  backbone_alone: ("torchvision", 0),
  torchvision: ("torchvision", 2),
  old_torchvision: ("torchvision", 0),
  transformers: ("transformers", 0),
  transformers_classifier: ("transformers", 2),
}
