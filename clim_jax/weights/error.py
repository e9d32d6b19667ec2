"""What goes wrong with weights from or for elsewhere."""

import importlib
from types import ModuleType


class WeightsError(ValueError):
  """Weights that cannot be read, fitted or written: where, why and what helps."""


def require(module: str) -> ModuleType:
  """Imports what not everyone has; WeightsError says so if it is missing."""
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise WeightsError(
      f"this needs {module}, which is not installed: pip install {module}"
    ) from error
