"""The step at ImageNet's size: ResNet-50, MoCo v2, five sides, and CLIM."""

import dataclasses

from benchmarks.accelerator_phases import programs
from benchmarks.accelerator_phases.phase import Phase
from benchmarks.accelerator_phases.step import (
  is_out_of_memory,
  measure_peer,
  measure_step,
)

_SIDES = (224, 192, 160, 128, 96)
_SHAPE = programs.Shape(
  "resnet50", "imagenet", _SIDES[:1], 256, 65536, programs.IMAGENET
)
_BATCH_OF_FIVE = 64  # CLIM sees eleven views of an image
_QUICK = dict(
  policy=programs.QUICK, backbone="resnet_small", width=4, hidden=16, batch=16, queue=64
)
_LEAST = 8  # the smallest batch tried: two rows for each of several groups


def shape(phase: Phase, sides: int = 1) -> programs.Shape:
  """With one side or several."""
  if phase.quick:
    return dataclasses.replace(_SHAPE, **_QUICK, sides=(32, 24)[:sides])
  batch = _SHAPE.batch if sides == 1 else _BATCH_OF_FIVE
  return dataclasses.replace(_SHAPE, sides=_SIDES[:sides], batch=batch)


def measure(phase: Phase) -> None:
  steps = phase.sized(15, 2)
  cases = (
    ("MoCo v2", shape(phase), False),
    ("MoCo v2, five sides", shape(phase, 5), False),
    ("CLIM", shape(phase, 5), True),
  )
  for case, wanted, positives in cases[:: phase.sized(2, 1)]:
    measure_peer(phase, case, wanted, positives=positives, steps=steps, seconds=120)
  for case, wanted, positives in cases:
    if not phase.wants(f"{case} augmented") and not phase.wants(f"{case} given"):
      continue
    with phase.attempt(case):
      _by_memory(phase, case, wanted, positives=positives, steps=steps)


def _by_memory(
  phase: Phase, case: str, shape: programs.Shape, *, positives: bool, steps: int
) -> None:
  """Halves the batch until it fits."""
  while True:
    try:
      measure_step(phase, case, shape, positives=positives, steps=steps)
      return
    except Exception as error:
      if not is_out_of_memory(error) or shape.batch // 2 < _LEAST:
        raise
      phase.report(case, batch=shape.batch, error="out of memory")
    shape = dataclasses.replace(shape, batch=shape.batch // 2)
