"""What XLA's CPU compiler must not fuse."""

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental.xla_metadata import set_xla_metadata


def apart(function: Callable[[Any], jax.Array], x: Any) -> jax.Array:
  """`function(x)` with x, arrays, computed before and nothing else computed within.

  XLA fuses what computes an operand, such as batch normalisation, into what moves it,
  and then computes it along strides of megabytes, or once for every place where it is
  read. It does not inline this call. Barriers are gone before fusion.
  """
  with set_xla_metadata(inlineable="false"):
    return jax.jit(function)(x)
