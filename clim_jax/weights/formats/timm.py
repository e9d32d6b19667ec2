"""Folders that timm reads: `create_model("local-dir:…", pretrained=True)`."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from clim_jax.models.resnet import feature_dim
from clim_jax.weights.error import WeightsError
from clim_jax.weights.files import write_safetensors
from clim_jax.weights.spec import Network, Preprocessing

_BACKBONES = ("resnet18", "resnet34", "resnet50")  # the same names there
_WIDTH = 64  # of the stem there; no option changes it


def check(network: Network) -> None:
  """Raises WeightsError for a network that timm's ResNet cannot be."""
  if network.backbone not in _BACKBONES or network[1:] != ("imagenet", _WIDTH):
    raise WeightsError(
      f"timm has no {network}: it has {', '.join(_BACKBONES)} with the imagenet stem "
      f"and width {_WIDTH}. Export torchvision or onnx"
    )


def write(
  output: epath.Path,
  tensors: Mapping[str, np.ndarray],
  network: Network,
  preprocessing: Preprocessing,
) -> None:
  write_safetensors(output / "model.safetensors", tensors)
  config = _config(network, preprocessing)
  (output / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _config(network: Network, preprocessing: Preprocessing) -> dict[str, Any]:
  return {
    "architecture": network.backbone,
    "num_classes": 0,
    "num_features": feature_dim(network.backbone, network.width),
    "global_pool": "avg",
    "pretrained_cfg": {
      "input_size": [3, preprocessing.side, preprocessing.side],
      "fixed_input_size": False,
      "interpolation": "bilinear",
      "crop_pct": preprocessing.crop_fraction,
      "crop_mode": "center",
      "mean": list(preprocessing.pixel_mean),
      "std": list(preprocessing.pixel_std),
      "num_classes": 0,
      "first_conv": "conv1",
      "classifier": "fc",
    },
  }
