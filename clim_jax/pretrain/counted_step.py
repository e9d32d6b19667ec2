"""A step that knows what it costs: FLOP of its program, and a chip's peak."""

from collections.abc import Callable
from typing import Any

import jax

from clim_jax.pretrain.flops import count_flops

# bfloat16 FLOP a second of one device, by how its `device_kind` begins; the makers'
# published figures for dense matrices. A TPU7x chip is two devices.
_PEAKS = {
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5": 459e12,
  "TPU v6 lite": 918e12,
  "TPU7x": 1153e12,
  "NVIDIA A100": 312e12,
  "NVIDIA H100": 989e12,
  "NVIDIA H100 PCIe": 756e12,
  "NVIDIA H100 NVL": 835e12,
  "NVIDIA H200": 989e12,
  "NVIDIA H200 NVL": 835e12,
}


def peak_flops(device_kind: str) -> float | None:
  """bfloat16 FLOP a second of one device at best; None if it is not known."""
  known = [name for name in _PEAKS if device_kind.startswith(name)]
  return _PEAKS[max(known, key=len)] if known else None


class CountedStep:
  """A jitted function, compiled once for each structure of its arguments.

  `flops` are those of one device in the last call, as `count_flops` has them.
  """

  def __init__(self, step: Callable[..., Any]) -> None:
    self._step = step
    self._programs: dict[Any, tuple[Any, int]] = {}
    self.flops = 0

  def knows(self, *arguments: Any) -> bool:
    """Whether a call with these arguments would compile nothing."""
    return jax.tree.structure(arguments) in self._programs

  def __call__(self, *arguments: Any) -> Any:
    structure = jax.tree.structure(arguments)
    if structure not in self._programs:
      traced = self._step.trace(*arguments)
      flops = count_flops(traced.jaxpr.jaxpr)
      self._programs[structure] = traced.lower().compile(), flops
    program, self.flops = self._programs[structure]
    return program(*arguments)
