"""Weights of other projects: whose they are, and our trees filled with them.

PyTorch's modules name their tensors by where they keep the backbone, so the first part
of a name tells the project. The names are those of each project's published files.
"""

import json
from collections.abc import Iterable, Mapping
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
  torchvision_shapes,
)

_REPLICATED = "module."  # before every name that was trained on several devices
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


# The first whose mark is found. PCL is built on MoCo and names alike.
_LAYOUTS = (
  _Layout("MoCo v2 or PCL v2", "encoder_q.fc.0.", "encoder_q."),
  _Layout("MoCo v1 or PCL v1", "encoder_q.", "encoder_q."),
  _Layout("MoCo v3", "base_encoder.", "base_encoder."),
  _Layout("Barlow Twins", "projector.", "backbone."),
  _Layout("DINO", "backbone.", "backbone."),
  _Layout(_TRANSFORMERS, "resnet.embedder.", "resnet."),
  _Layout(_TRANSFORMERS, "embedder."),
  _Layout("SwAV", "projection_head."),
  # Backbones alone are published by these names, ours and Barlow Twins' included.
  _Layout("torchvision", "conv1."),
)


def load_weights(path: epath.PathLike, params: Tree, batch_stats: Tree) -> Loaded:
  """Our trees with the backbone of a file, and with its projection if that fits.

  Args:
    path: .safetensors, PyTorch's weights, or a folder of a model hub. Of MoCo v1, v2
      and v3, PCL, SwAV, DINO, Barlow Twins, torchvision, timm, transformers or ours.
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


def _layout(names: Iterable[str]) -> _Layout:
  plain = [name.removeprefix(_REPLICATED) for name in names]
  for layout in _LAYOUTS:
    if any(name.startswith(layout.mark) for name in plain):
      return layout
  raise WeightsError(
    f"whose weights these are is unknown: none of {len(plain)} names starts as those "
    f"of a ResNet do; the first are {', '.join(sorted(plain)[:5])}. Name the "
    "backbone's tensors as torchvision does (conv1.weight, …)"
  )


def _torchvision_names(names: Iterable[str], layout: _Layout) -> dict[str, str]:
  """Names in the file → torchvision's; without those of parts that we lack."""
  renamed = {}
  for name in names:
    plain = name.removeprefix(_REPLICATED)
    if plain.startswith(layout.prefix):
      inner = plain.removeprefix(layout.prefix)
      is_theirs = layout.name == _TRANSFORMERS
      renamed[name] = torchvision_name(inner) if is_theirs else inner
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
