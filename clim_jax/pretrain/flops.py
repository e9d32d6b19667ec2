"""FLOP of a traced program, counted from its shapes.

The compiler's own count does not see the library calls that a GPU's convolutions and
products become, and takes a loop's body once.
"""

import math
from collections.abc import Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def count_flops(program: Jaxpr) -> int:
  """FLOP of a program's matrix products and convolutions, two a multiplication.

  Loops of a known length count as often as they run, others once; of branches the
  dearest counts. What is computed again for the backward pass counts again. Inside a
  mapped function shapes are those of one device, and so is the count. Pallas kernels
  and element-wise operations are left out.
  """
  return sum(_flops_of(equation) for equation in program.eqns)


def _flops_of(equation: JaxprEqn) -> int:
  name, params = equation.primitive.name, equation.params
  if name == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    multiplications = math.prod(left[axis] for axis in contracted)
    return 2 * math.prod(equation.outvars[0].aval.shape) * multiplications
  if name == "conv_general_dilated":
    kernel, layout = equation.invars[1].aval.shape, params["dimension_numbers"].rhs_spec
    # All of the kernel but its output features, less the zeros between dilated pixels.
    multiplications = math.prod(kernel) // kernel[layout[0]]
    outputs = math.prod(equation.outvars[0].aval.shape)
    return 2 * outputs * multiplications // math.prod(params["lhs_dilation"])
  if name == "pallas_call":
    return 0
  inner = [count_flops(program) for program in _programs_in(params.values())]
  if name == "cond":
    return max(inner)
  return sum(inner) * params.get("length", 1)


def _programs_in(values: Any) -> Iterator[Jaxpr]:
  for value in values:
    if isinstance(value, ClosedJaxpr):
      yield value.jaxpr
    elif isinstance(value, Jaxpr):
      yield value
    elif isinstance(value, tuple | list):
      yield from _programs_in(value)
