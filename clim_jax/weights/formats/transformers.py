"""Folders that `ResNetModel.from_pretrained` of Hugging Face transformers reads."""

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from clim_jax.models.resnet import ARCHITECTURES
from clim_jax.weights.error import WeightsError
from clim_jax.weights.files import write_safetensors
from clim_jax.weights.spec import Network, Preprocessing

_STEM = {
  "conv1": "embedder.embedder.convolution",
  "bn1": "embedder.embedder.normalization",
}
_OURS = re.compile(r"layer(\d+)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(\w+)")
_THEIRS = re.compile(
  r"encoder\.stages\.(\d+)\.layers\.(\d+)\.(?:layer\.(\d)|shortcut)"
  r"\.(convolution|normalization)\.(\w+)"
)
# The fields of ResNetConfig that would make it another network than ours.
_ALWAYS = {
  "hidden_act": "relu",
  "downsample_in_first_stage": False,
  "downsample_in_bottleneck": False,
}
_BILINEAR = 2  # PIL's number


def check(network: Network) -> None:
  """Raises WeightsError for what a ResNetConfig cannot say."""
  if network.stem != "imagenet":
    raise WeightsError(
      f"transformers' ResNet has no {network.stem} stem: export torchvision or onnx"
    )


def write(
  output: epath.Path,
  tensors: Mapping[str, np.ndarray],
  network: Network,
  preprocessing: Preprocessing,
) -> None:
  renamed = {transformers_name(name): tensor for name, tensor in tensors.items()}
  write_safetensors(output / "model.safetensors", renamed)
  for name, fields in (
    ("config.json", _config(network)),
    ("preprocessor_config.json", _processor(preprocessing)),
  ):
    (output / name).write_text(json.dumps(fields, indent=2) + "\n")


def transformers_name(name: str) -> str:
  """torchvision's "layer1.0.conv1.weight" → "encoder.stages.0.layers.0.layer.0.…"."""
  module, _, leaf = name.rpartition(".")
  if module in _STEM:
    return f"{_STEM[module]}.{leaf}"
  stage, block, kind, index, leaf = _OURS.fullmatch(name).groups()
  inner = f"encoder.stages.{int(stage) - 1}.layers.{block}"
  if kind == "downsample.":
    layer = ("convolution", "normalization")[int(index)]
    return f"{inner}.shortcut.{layer}.{leaf}"
  layer = "convolution" if kind == "conv" else "normalization"
  return f"{inner}.layer.{int(index) - 1}.{layer}.{leaf}"


def torchvision_name(name: str) -> str:
  """The inverse of `transformers_name`; other names stay as they are."""
  for ours, theirs in _STEM.items():
    if name.startswith(f"{theirs}."):
      return ours + name.removeprefix(theirs)
  found = _THEIRS.fullmatch(name)
  if found is None:
    return name
  stage, block, index, layer, leaf = found.groups()
  is_convolution = layer == "convolution"
  if index is None:
    module = f"downsample.{0 if is_convolution else 1}"
  else:
    module = f"{'conv' if is_convolution else 'bn'}{int(index) + 1}"
  return f"layer{int(stage) + 1}.{block}.{module}.{leaf}"


def check_config(config: Mapping[str, Any]) -> None:
  """Raises WeightsError for a config.json whose network computes other than ours."""
  for field, value in _ALWAYS.items():
    if config.get(field, value) != value:
      raise WeightsError(
        f"its config.json sets {field} to {config[field]!r}, which our networks are "
        f"not: only {value!r} can be loaded, for weights alone do not tell"
      )


def _config(network: Network) -> dict[str, Any]:
  block, depths = ARCHITECTURES[network.backbone]
  stages = range(len(depths))
  return {
    "architectures": ["ResNetModel"],
    "model_type": "resnet",
    "num_channels": 3,
    "embedding_size": network.width,
    "hidden_sizes": [network.width * 2**stage * block.expansion for stage in stages],
    "depths": list(depths),
    "layer_type": "basic" if block.expansion == 1 else "bottleneck",
    **_ALWAYS,
    "dtype": "float32",
  }


def _processor(preprocessing: Preprocessing) -> dict[str, Any]:
  """BiT's processor: ConvNeXt's, the usual one of a ResNet, crops only below 384.

  It resizes the shorter edge and then crops; our evaluation crops, then resizes. The
  two differ by the rounding of the crop to whole pixels, before or after.
  """
  return {
    "image_processor_type": "BitImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": preprocessing.resize},
    "resample": _BILINEAR,
    "do_center_crop": True,
    "crop_size": {"height": preprocessing.side, "width": preprocessing.side},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(preprocessing.pixel_mean),
    "image_std": list(preprocessing.pixel_std),
  }
