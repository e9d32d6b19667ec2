"""State dicts by torchvision's names, of any network; it can build those of width 64.

`load_state_dict(…, strict=False)` lacks fc alone.
"""

from collections.abc import Mapping

import numpy as np
from etils import epath

from clim_jax.weights.files import write_safetensors, write_torch
from clim_jax.weights.spec import Network, Preprocessing


def write(
  output: epath.Path,
  tensors: Mapping[str, np.ndarray],
  network: Network,
  preprocessing: Preprocessing,
) -> None:
  """As safetensors or, by the suffix .pth, as PyTorch's own."""
  del network, preprocessing
  write = write_torch if output.suffix == ".pth" else write_safetensors
  write(output, tensors)
