"""Weights of other projects: whose they are, and our trees filled with them.

PyTorch's modules name their tensors by where they keep the backbone, so the first part
of a name tells the project. The names are those of each project's published files.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from etils import epath

from clim_jax.weights.error import WeightsError
from clim_jax.weights.files import read_tensors
from clim_jax.weights.fit import is_counter
from clim_jax.weights.formats.transformers import check_config, torchvision_name
from clim_jax.weights.layout import (
  Tree,
  from_torchvision,
  projection_from_mlp,
  projection_to_mlp,
  to_torchvision,
  torchvision_shapes,
)

# Parts of names that wrappers for several devices and for compiling add.
_WRAPPERS = ("module", "_orig_mod")
_TRANSFORMERS = "transformers"


class Loaded(NamedTuple):
  params: Tree
  batch_stats: Tree
  layout: str  # whose file it is
  projection: bool  # whether the projection was loaded too
  ignored: tuple[str, ...]  # tensors of the file without a use here, save counters


class _Layout(NamedTuple):
  name: str
  mark: str  # how one of the names starts
  prefix: str = ""  # before the backbone's names
  sequential: bool = False  # its names are places in a torch.nn.Sequential


# The first whose mark is found. PCL is built on MoCo and names alike.
_LAYOUTS = (
  _Layout("MoCo v2 or PCL v2", "encoder_q.fc.0.", "encoder_q."),
  _Layout("MoCo v1 or PCL v1", "encoder_q.", "encoder_q."),
  _Layout("MoCo v3", "base_encoder.", "base_encoder."),
  _Layout("Barlow Twins", "projector.", "backbone."),
  _Layout("DINO", "head.mlp.", "backbone."),
  _Layout(_TRANSFORMERS, "resnet.embedder.", "resnet."),
  _Layout(_TRANSFORMERS, "embedder."),
  _Layout("SwAV", "projection_head."),
  # Backbones alone are published by these names, ours and Barlow Twins' included.
  _Layout("torchvision", "conv1."),
)

# Children of torchvision's ResNet by their place, as torch.nn.Sequential names them.
_CHILDREN = {"0": "conv1", "1": "bn1"} | {str(n + 3): f"layer{n}" for n in range(1, 5)}
_SLOW = re.compile(r"momentum|target|teacher|ema|encoder_k|key|shadow")
_OTHERS = {  # by names that only they have
  "a Swin Transformer": r"layers\.0\.blocks\.0\.attn|relative_position_bias",
  "a vision transformer": r"cls_token|blocks\.0\.attn|encoder_layer_0|class_embedding",
  "a ConvNeXt": r"dwconv|stages\.0\.blocks|gamma",
  "a DenseNet": r"denseblock",
  "an EfficientNet or MobileNet": r"conv_stem|features\.\d+\.conv|conv_dw",
  "a ResNet with a deep stem, as timm's resnet50d": r"(^|\.)conv1\.0\.weight",
  "a VGG or AlexNet": r"features\.\d+\.weight",
}


def load_weights(path: epath.PathLike, params: Tree, batch_stats: Tree) -> Loaded:
  """Our trees with the backbone of a file, and with its projection if that fits.

  Args:
    path: .safetensors, PyTorch's weights, or a folder of a model hub. Of MoCo v1, v2
      and v3, PCL, SwAV, DINO, Barlow Twins, torchvision, timm, transformers or ours; or
      of others who keep torchvision's names, whatever stands before, or lightly's.
    params: the encoder's, whose shapes the file must fit; leaves may be
      `jax.ShapeDtypeStruct`, which stay where the file holds nothing.
    batch_stats: likewise.

  Raises WeightsError, which starts with the path, if the file cannot be read, is
  nobody's that we know, or is of another network.
  """
  tensors = read_tensors(path)
  try:
    layout = _layout(tensors)
    if layout.name == _TRANSFORMERS:
      _check_config(epath.Path(path))
    names = _torchvision_names(tensors, layout)
    return _loaded(tensors, names, layout.name, params, batch_stats)
  except WeightsError as error:
    raise WeightsError(f"{path}: {error}") from error


def of_our_own(theirs: tuple[Tree, Tree], params: Tree, batch_stats: Tree) -> Loaded:
  """Our trees with the backbone of other such trees, and the projection if that fits.

  Args:
    theirs: parameters and running statistics of another encoder.
    params: as `load_weights` has them.
    batch_stats: likewise.

  Raises WeightsError if it is another network.
  """
  tensors = to_torchvision(*theirs) | projection_to_mlp(theirs[0])
  names = {name: name for name in tensors}
  return _loaded(tensors, names, "clim_jax", params, batch_stats)


def _layout(names: Iterable[str]) -> _Layout:
  plain = {_plain(name) for name in names}
  found = _below_wrappers(plain)
  complete = {layout.prefix for layout in found}
  for layout in _LAYOUTS:
    holds = layout.name == _TRANSFORMERS or layout.prefix in complete
    if holds and any(name.startswith(layout.mark) for name in plain):
      return layout
  # Where there is a copy that follows slowly, the other one is trained.
  trained = [layout for layout in found if not _SLOW.search(layout.prefix)] or found
  if len(trained) == 1:
    return trained[0]
  if trained:
    prefixes = ", ".join(sorted(layout.prefix for layout in trained))
    raise WeightsError(
      f"the file holds several ResNets, {prefixes}: "
      "save the tensors of one of them alone"
    )
  raise WeightsError(
    f"no ResNet is found among {len(plain)} tensors{_guess(plain)}; the first are "
    f"{', '.join(sorted(plain)[:5])}. Name the backbone's tensors as torchvision does "
    "(conv1.weight, …, layer4.…), whatever stands before"
  )


def _plain(name: str) -> str:
  return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _below_wrappers(names: Collection[str]) -> list[_Layout]:
  """The ResNets among `names` under torchvision's names, whatever stands before."""
  found = []
  for first, later, sequential in (
    ("conv1.weight", "layer1.0.conv1.weight", False),
    ("0.weight", "4.0.conv1.weight", True),
  ):
    for name in names:
      prefix = name.removesuffix(first)
      if (f"{prefix}{first}" == name) and f"{prefix}{later}" in names:
        whose = f"torchvision, below {prefix}" if prefix else "torchvision"
        found.append(_Layout(whose, prefix, prefix, sequential))
  return found


def _guess(names: Iterable[str]) -> str:
  """Which other network they look like, as the end of a sentence."""
  for network, mark in _OTHERS.items():
    if any(re.search(mark, name) for name in names):
      return f"; it looks like {network}"
  return ""


def _torchvision_names(names: Iterable[str], layout: _Layout) -> dict[str, str]:
  """Names in the file → torchvision's; without those of parts that we lack."""
  renamed = {}
  for name in names:
    plain = _plain(name)
    if not plain.startswith(layout.prefix):
      continue
    inner = plain.removeprefix(layout.prefix)
    if layout.name == _TRANSFORMERS:
      inner = torchvision_name(inner)
    elif layout.sequential:
      place, _, rest = inner.partition(".")
      inner = f"{_CHILDREN.get(place, place)}.{rest}"
    renamed[name] = inner
  return renamed


def _loaded(
  tensors: Mapping[str, np.ndarray],
  names: Mapping[str, str],
  layout: str,
  params: Tree,
  batch_stats: Tree,
) -> Loaded:
  renamed = {theirs: tensors[name] for name, theirs in names.items()}
  used = set(torchvision_shapes(params, batch_stats))
  params, batch_stats = from_torchvision(renamed, params, batch_stats)
  projected = projection_from_mlp(renamed, params)
  if projected is not None:
    used |= set(projection_to_mlp(projected))
    params = projected
  ignored = (
    name for name in tensors if names.get(name) not in used and not is_counter(name)
  )
  return Loaded(
    params, batch_stats, layout, projected is not None, tuple(sorted(ignored))
  )


def _check_config(path: epath.Path) -> None:
  """Of a hub's folder; a file that was moved out of one is taken at its word."""
  config = (path if path.is_dir() else path.parent) / "config.json"
  if config.exists():
    check_config(json.loads(config.read_text()))
