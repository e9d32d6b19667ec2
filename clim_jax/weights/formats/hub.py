"""Folders for the Hugging Face Hub, in the layout of a library that has the network."""

from collections.abc import Mapping

import numpy as np
from etils import epath

from clim_jax.weights.error import WeightsError
from clim_jax.weights.files import write_safetensors
from clim_jax.weights.formats import timm, transformers
from clim_jax.weights.spec import Network, Preprocessing

OURS = "clim_jax"  # reads every network, by torchvision's names
_LIBRARIES = {"timm": timm, "transformers": transformers}


def library(network: Network) -> str:
  """Whose layout the folder has: timm's, else transformers', else our own."""
  for name, layout in _LIBRARIES.items():
    try:
      layout.check(network)
    except WeightsError:
      continue
    return name
  return OURS


def write(
  output: epath.Path,
  tensors: Mapping[str, np.ndarray],
  network: Network,
  preprocessing: Preprocessing,
) -> None:
  name = library(network)
  if name == OURS:
    write_safetensors(output / "model.safetensors", tensors)
  else:
    _LIBRARIES[name].write(output, tensors, network, preprocessing)
