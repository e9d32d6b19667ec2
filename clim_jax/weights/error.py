"""What goes wrong with weights from or for elsewhere."""

import importlib
from types import ModuleType


class WeightsError(ValueError):
  """Weights that cannot be read, fitted or written: where, why and what helps."""


def require(module: str, extra: str) -> ModuleType:
  """Imports what only an extra installs; WeightsError says which if it is missing."""
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise WeightsError(
      f'this needs {module}, which is not installed: pip install "clim_jax[{extra}]"'
    ) from error
