"""Files of tensors: safetensors and PyTorch's, of which no code is ever run."""

import contextlib
import pickle
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from etils import epath

from clim_jax.weights import inert
from clim_jax.weights.error import WeightsError, require

_TORCH_SUFFIXES = (".pth", ".pt", ".tar", ".bin", ".ckpt", ".torch")
# What a folder of a model hub holds; the safe one first.
_IN_FOLDERS = ("model.safetensors", "pytorch_model.bin")
# Where training scripts put the weights among the rest. DINO saves a teacher and a
# student, and evaluates the teacher.
_CONTAINERS = ("teacher", "state_dict", "model", "student")


def read_tensors(path: epath.PathLike) -> dict[str, np.ndarray]:
  """Names and tensors of a .safetensors file, or of PyTorch's weights.

  A folder stands for the model file in it. Of a training checkpoint it is the weights
  that are returned, without the optimizer; of a whole module, its state dict. PyTorch's
  bfloat16 becomes float32. Code that a file asks for is not run: objects of its own
  classes, such as a config beside the weights, are passed over.

  Raises WeightsError if there is no such file, if it is none of these, or if it holds
  no tensors.
  """
  path = _file(epath.Path(path))
  if not path.stat().length:
    raise WeightsError(f"{path} is empty: fetch or copy it again")
  if path.suffix == ".safetensors":
    tensors = _read_safetensors(path)
  else:
    tensors = _read_torch(path)
  if not tensors:
    raise WeightsError(f"{path} holds no tensors: give a file of weights")
  return tensors


def write_safetensors(path: epath.Path, tensors: Mapping[str, np.ndarray]) -> None:
  # Some releases of transformers refuse files that do not say so.
  content = safetensors.numpy.save(dict(tensors), metadata={"format": "pt"})
  path.write_bytes(content)


def write_torch(path: epath.Path, tensors: Mapping[str, np.ndarray]) -> None:
  """As `torch.save` of a state dict; needs the extra `torch`."""
  torch = require("torch")
  state = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
  with path.open("wb") as file:
    torch.save(state, file)


def _file(path: epath.Path) -> epath.Path:
  if not path.exists():
    raise WeightsError(f"{path} does not exist: check the path of the weights")
  if path.is_dir():
    files = [path / name for name in _IN_FOLDERS if (path / name).exists()]
    if not files:
      raise WeightsError(f"{path} is a folder without {' or '.join(_IN_FOLDERS)}")
    path = files[0]
  suffixes = (".safetensors", *_TORCH_SUFFIXES)
  if path.suffix not in suffixes:
    raise WeightsError(
      f"{path} is no file of weights by its name: it must end in {', '.join(suffixes)}"
    )
  return path


def _read_safetensors(path: epath.Path) -> dict[str, np.ndarray]:
  try:
    return safetensors.numpy.load(path.read_bytes())
  except safetensors.SafetensorError as error:
    raise WeightsError(
      f"{path} is not in safetensors format ({error}): fetch or copy it again"
    ) from error
  except KeyError as error:  # a number format that NumPy lacks
    raise WeightsError(
      f"{path} holds {error} numbers, which NumPy lacks: save it as float32"
    ) from error


def _read_torch(path: epath.Path) -> dict[str, np.ndarray]:
  torch = require("torch")
  with path.open("rb") as file, _refusals(path):
    try:
      content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
      if "global" not in str(error).lower():
        raise
      file.seek(0)
      content = inert.load(torch, file)
  return {
    name: _as_numpy(torch, value)
    for name, value in _unwrapped(content).items()
    if isinstance(value, torch.Tensor)
  }


@contextlib.contextmanager
def _refusals(path: epath.Path) -> Iterator[None]:
  """Turns what `torch.load` raises into a WeightsError."""
  try:
    yield
  except Exception as error:  # a damaged pickle raises anything
    raise _no_checkpoint(path) from error


def _no_checkpoint(path: epath.Path) -> WeightsError:
  return WeightsError(
    f"{path} is no checkpoint of PyTorch that can be read without running code, or a "
    "damaged one: fetch or copy it again, or save it as safetensors"
  )


def _unwrapped(content: Any) -> Mapping[str, Any]:
  """The weights of a training checkpoint; none if it is not even a mapping."""
  if not isinstance(content, Mapping):
    return {}
  if "_modules" in content:
    return dict(inert.module_tensors(content))
  for name in _CONTAINERS:
    if isinstance(content.get(name), Mapping):
      return _unwrapped(content[name])
  return content


def _as_numpy(torch: Any, tensor: Any) -> np.ndarray:
  tensor = tensor.detach()
  return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
