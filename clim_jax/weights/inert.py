"""PyTorch's files with other objects among the tensors: those become inert, unrun.

A pickle makes objects by calling what it names. Here it may name what tensors are made
of and nothing else: all other names stand for `Inert`, which does nothing when called.
"""

import collections
import pickle
import types
from collections.abc import Iterator
from typing import Any, BinaryIO

# Plain functions of their arguments, from torch._utils.
_TENSORS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")


class Inert(dict):
  """In place of an object of any class: keeps what it is given and does nothing."""

  def __new__(cls, *_: Any, **__: Any) -> "Inert":
    return super().__new__(cls)

  def __init__(self, *_: Any, **__: Any) -> None:
    super().__init__()

  def __setstate__(self, state: Any) -> None:
    if isinstance(state, dict):
      self.update(state)

  def __call__(self, *_: Any, **__: Any) -> "Inert":
    return self

  def append(self, _: Any) -> None:
    """As a list has it."""

  def extend(self, _: Any) -> None:
    """Likewise."""

  def add(self, _: Any) -> None:
    """As a set has it."""

  __hash__ = object.__hash__  # it may stand for a key
  __eq__ = object.__eq__


def load(torch: types.ModuleType, file: BinaryIO) -> Any:
  """What `torch.load` would give, with `Inert` for all but tensors and plain values."""
  made = {f"torch._utils.{name}": getattr(torch._utils, name) for name in _TENSORS}
  made["collections.OrderedDict"] = collections.OrderedDict

  class Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
      return made.get(f"{module}.{name}", Inert)

  pickles = types.SimpleNamespace(
    __name__="inert",
    Unpickler=Unpickler,
    load=lambda file, **options: Unpickler(file, **options).load(),
  )
  return torch.load(file, map_location="cpu", pickle_module=pickles, weights_only=False)


def module_tensors(module: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
  """The state dict of a whole `torch.nn.Module` that was read as `Inert`."""
  for kind in ("_parameters", "_buffers"):
    for name, tensor in module.get(kind, {}).items():
      yield prefix + name, tensor
  for name, child in module.get("_modules", {}).items():
    yield from module_tensors(child, f"{prefix}{name}.")
