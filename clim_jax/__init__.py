"""CLIM self-supervised pretraining (arXiv 2011.02697) in JAX and Flax.

    import clim_jax

    run = clim_jax.pretrain("photos", out="runs/photos", epochs=100)
    features = clim_jax.load(run).embed("photos")  # [N, dim] float32

Each name of `__all__` has an example in its docstring; none is imported before it is
used.
"""

import importlib
import os
import sys
import types
from typing import Any

__version__ = "0.2.0"

_HOMES = {
  "ConfigError": "clim_jax.experiment.error",
  "center_wise_positives": "clim_jax.selection.center_wise",
  "check": "clim_jax.api.runs",
  "config": "clim_jax.api.runs",
  "config_names": "clim_jax.api.runs",
  "embed": "clim_jax.api.encoder",
  "evaluate": "clim_jax.api.runs",
  "export": "clim_jax.api.runs",
  "load": "clim_jax.api.encoder",
  "plan": "clim_jax.api.runs",
  "pretrain": "clim_jax.api.runs",
  "report": "clim_jax.api.runs",
}
__all__ = ["__version__", *_HOMES]

# Installed, the configs lie inside this package; in a checkout they stand beside it.
_BESIDE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if os.path.isfile(os.path.join(_BESIDE, "configs", "base.py")):
  __path__.append(_BESIDE)


class _Package(types.ModuleType):
  """Keeps `pretrain`, `evaluate` and `report` functions, though rooms are named so.

  An import of a room binds it here; it is found by import statements without that.
  """

  def __setattr__(self, name: str, value: Any) -> None:
    if name not in _HOMES or not isinstance(value, types.ModuleType):
      super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
  if name not in _HOMES:
    raise AttributeError(f"module 'clim_jax' has no attribute {name!r}")
  return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
  return __all__
