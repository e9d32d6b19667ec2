"""Backbones for detectron2's detectors, as MoCo's R50-C4: `MODEL.WEIGHTS`."""

import pickle
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from clim_jax.models.resnet import ARCHITECTURES
from clim_jax.weights.error import WeightsError
from clim_jax.weights.fit import is_counter
from clim_jax.weights.spec import Network, Preprocessing

_NAME = re.compile(r"layer(\d)\.(\d+)\.(.+)")
_NORM = re.compile(r"^bn(\d)")


def check(network: Network) -> None:
  """Raises WeightsError for a network that a C4 detector has not."""
  block, _ = ARCHITECTURES[network.backbone]
  if block.expansion == 1 or network.stem != "imagenet":
    raise WeightsError(
      f"a C4 detector has no {network}: it takes bottleneck blocks, as resnet50, with "
      "the imagenet stem. Export torchvision or onnx"
    )


def write(
  output: epath.Path,
  tensors: Mapping[str, np.ndarray],
  network: Network,
  preprocessing: Preprocessing,
) -> None:
  """A pickle of a dict of NumPy arrays, as Detectron2's own converters write it."""
  del network, preprocessing
  model = {
    detectron2_name(name): tensor
    for name, tensor in tensors.items()
    if not is_counter(name)
  }
  # The heuristics match names by their ends: res5 belongs to the head in a C4.
  content = {"model": model, "__author__": "clim_jax", "matching_heuristics": True}
  output.write_bytes(pickle.dumps(content, protocol=4))


def detectron2_name(name: str) -> str:
  """torchvision's "layer1.0.bn1.bias" → "res2.0.conv1.norm.bias"."""
  found = _NAME.fullmatch(name)
  if found is None:
    scope, rest = "stem", name
  else:
    stage, block, rest = found.groups()
    scope = f"res{int(stage) + 1}.{block}"
  rest = rest.replace("downsample.0.", "shortcut.")
  rest = rest.replace("downsample.1.", "shortcut.norm.")
  return f"{scope}." + _NORM.sub(r"conv\1.norm", rest)


def settings(network: Network, preprocessing: Preprocessing) -> dict[str, Any]:
  """The detector's config that these weights need."""
  _, depths = ARCHITECTURES[network.backbone]
  return {
    "INPUT.FORMAT": "RGB",
    "MODEL.PIXEL_MEAN": [255 * value for value in preprocessing.pixel_mean],
    "MODEL.PIXEL_STD": [255 * value for value in preprocessing.pixel_std],
    "MODEL.RESNETS.DEPTH": 2 + 3 * sum(depths),
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": network.width,
    "MODEL.RESNETS.WIDTH_PER_GROUP": network.width,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 4 * network.width,
  }
