"""Trained backbones, written for other libraries."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from clim_jax.weights.error import WeightsError
from clim_jax.weights.fit import describe
from clim_jax.weights.formats import (
  detectron2,
  hub,
  onnx,
  timm,
  torchvision,
  transformers,
)
from clim_jax.weights.layout import Tree, to_torchvision
from clim_jax.weights.spec import Network, Preprocessing, record

_Write = Callable[[epath.Path, Mapping[str, np.ndarray], Network, Preprocessing], None]


class _Format(NamedTuple):
  write: _Write
  suffixes: tuple[str, ...]  # of its one file; none for a folder
  check: Callable[[Network], None] | None = None  # raises for what it cannot express
  settings: Callable[[Network, Preprocessing], dict[str, Any]] | None = None


_FORMATS = {
  "torchvision": _Format(torchvision.write, (".safetensors", ".pth")),
  "timm": _Format(timm.write, (), timm.check),
  "transformers": _Format(transformers.write, (), transformers.check),
  "detectron2": _Format(
    detectron2.write, (".pkl",), detectron2.check, detectron2.settings
  ),
  "onnx": _Format(onnx.write, (".onnx",)),
  "hub-folder": _Format(hub.write, ()),
}
FORMATS = tuple(_FORMATS)


def export(
  format_name: str,
  output: epath.PathLike,
  params: Tree,
  batch_stats: Tree,
  network: Network,
  preprocessing: Preprocessing,
) -> None:
  """Writes a backbone for another library, and how its images must be prepared.

  The latter is preprocessing.json in the output folder or, for formats of one file,
  its name and ".preprocessing.json" beside it. What is there already is replaced.

  Args:
    format_name: one of FORMATS.
    output: the file (torchvision: .safetensors or .pth; detectron2: .pkl; onnx:
      .onnx) or folder (timm, transformers, hub-folder).
    params: the encoder's, with a backbone.
    batch_stats: with the backbone's.
    network: what the trees are of.
    preprocessing: the evaluation's.

  Raises WeightsError if the format cannot express the network, if the output's name
  does not suit it, if the trees are of another network or if an extra is missing.
  """
  if format_name not in _FORMATS:
    raise WeightsError(
      f"format {format_name!r} is unknown: give one of {', '.join(FORMATS)}"
    )
  chosen, output = _FORMATS[format_name], epath.Path(output)
  if chosen.check is not None:
    chosen.check(network)
  if chosen.suffixes and output.suffix not in chosen.suffixes:
    raise WeightsError(
      f"{output} must end in {' or '.join(chosen.suffixes)} for {format_name}"
    )
  tensors = to_torchvision(params, batch_stats)
  _check_network(tensors, network)
  (output.parent if chosen.suffixes else output).mkdir(parents=True, exist_ok=True)
  chosen.write(output, tensors, network, preprocessing)
  _write_record(output, chosen, network, preprocessing)


def _check_network(tensors: Mapping[str, np.ndarray], network: Network) -> None:
  found = describe({name: tensor.shape for name, tensor in tensors.items()})
  if found != str(network):
    raise WeightsError(f"the weights are of {found}, not of {network}")


def _write_record(
  output: epath.Path, chosen: _Format, network: Network, preprocessing: Preprocessing
) -> None:
  fields = record(network, preprocessing)
  if chosen.settings is not None:
    fields["settings"] = chosen.settings(network, preprocessing)
  name = f"{output.name}.preprocessing.json" if chosen.suffixes else None
  path = output.parent / name if name else output / "preprocessing.json"
  path.write_text(json.dumps(fields, indent=2) + "\n")
