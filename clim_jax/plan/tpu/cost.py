"""What a compiled TPU program costs one device, as its compiler says."""

import re
from typing import NamedTuple

import jax
import numpy as np

from clim_jax.plan.tpu import traffic

_COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "collective-permute",
  "reduce-scatter",
  "all-to-all",
)


class Cost(NamedTuple):
  """Of one device. FLOP and accessed bytes count the body of a loop once."""

  flops: float
  bytes_accessed: float  # on-chip memory included
  hbm_bytes: int
  augment_bytes: int  # of those, by what carries its name; flips lose theirs
  cycles: int  # by the compiler's estimate of each operation
  augment_cycles: int  # of those; neither its kernel nor the layouts around it
  collective_bytes: int


def cost_of(compiled: jax.stages.Compiled) -> Cost:
  """What the compiler says of a program."""
  analysis, text = compiled.cost_analysis() or {}, compiled.as_text()
  return Cost(
    flops=analysis.get("flops", 0.0),
    bytes_accessed=analysis.get("bytes accessed", 0.0),
    hbm_bytes=traffic.hbm_bytes(text),
    augment_bytes=traffic.hbm_bytes(text, scope="augment"),
    cycles=traffic.estimated_cycles(text),
    augment_cycles=traffic.estimated_cycles(text, scope="augment"),
    collective_bytes=_collective_bytes(text),
  )


def memory_bytes(compiled: jax.stages.Compiled) -> int:
  """Arguments and temporaries of one device."""
  memory = compiled.memory_analysis()
  return memory.temp_size_in_bytes + memory.argument_size_in_bytes


def _collective_bytes(text: str) -> int:
  """Bytes that the collectives of a program return on one device."""
  names = "|".join(_COLLECTIVES)
  total = 0
  for shapes in re.findall(rf"= (.*?) (?:{names})(?:-start)?\(", text):
    for dtype, shape in re.findall(r"\b([a-z]+\d+|pred)\[([\d,]*)\]", shapes):
      bits = 8 if dtype == "pred" else int(re.sub(r"\D", "", dtype))
      total += int(np.prod([int(n) for n in shape.split(",") if n])) * bits // 8
  return total
