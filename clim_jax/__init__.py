"""CLIM self-supervised pretraining (arXiv 2011.02697) in JAX and Flax."""

import os

__version__ = "0.2.0"

# Installed, the configs lie inside this package; in a checkout they stand beside it.
_BESIDE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if os.path.isfile(os.path.join(_BESIDE, "configs", "base.py")):
  __path__.append(_BESIDE)
