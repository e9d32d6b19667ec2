"""Files of tensors: safetensors and PyTorch's, of which no code is ever run."""

import argparse
import contextlib
import pickle
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from etils import epath

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
  that are returned, without the optimizer. PyTorch's bfloat16 becomes float32.

  Raises WeightsError if there is no such file, if it is none of these, if it holds no
  tensors, or if it asks for code to be run, which is refused.
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
  harmless = torch.serialization.safe_globals(_harmless())
  with path.open("rb") as file, _refusals(path), harmless:
    content = torch.load(file, map_location="cpu", weights_only=True)
  return {
    name: _as_numpy(torch, value)
    for name, value in _unwrapped(content).items()
    if isinstance(value, torch.Tensor)
  }


def _harmless() -> list[Any]:
  """What training scripts put beside weights and what does nothing when it is made.

  DINO keeps its command line in a Namespace, others an accuracy as a NumPy number.
  """
  kinds = {type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")}
  scalar = np.float64(0).__reduce__()[0]
  # NumPy 1 wrote it under another name.
  old_name = (scalar, "numpy.core.multiarray.scalar")
  return [argparse.Namespace, np.dtype, *kinds, scalar, old_name]


@contextlib.contextmanager
def _refusals(path: epath.Path) -> Iterator[None]:
  """Turns what `torch.load` raises into a WeightsError."""
  try:
    yield
  except pickle.UnpicklingError as error:
    if "global" not in str(error).lower():
      raise _no_checkpoint(path) from error
    raise WeightsError(
      f"{path} is refused: it names Python code to be run when it is read "
      f"({_reason(error)}). Ask its author for safetensors or a plain state dict"
    ) from error
  except (RuntimeError, EOFError, ValueError, KeyError, IndexError) as error:
    raise _no_checkpoint(path) from error


def _no_checkpoint(path: epath.Path) -> WeightsError:
  return WeightsError(
    f"{path} is no checkpoint of PyTorch that can be read without running code, or a "
    "damaged one: fetch or copy it again, or save it as safetensors"
  )


def _reason(error: Exception) -> str:
  """The sentence of PyTorch's long message that names the code."""
  lines = [line for line in str(error).splitlines() if "global" in line.lower()]
  return lines[0].split(" was not")[0].split(":", 1)[-1].strip(" .")


def _unwrapped(content: Any) -> Mapping[str, Any]:
  """The weights of a training checkpoint; none if it is not even a mapping."""
  if not isinstance(content, Mapping):
    return {}
  for name in _CONTAINERS:
    if isinstance(content.get(name), Mapping):
      return _unwrapped(content[name])
  return content


def _as_numpy(torch: Any, tensor: Any) -> np.ndarray:
  tensor = tensor.detach()
  return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
