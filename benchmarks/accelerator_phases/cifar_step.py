"""The step at CIFAR's size: ResNet-18 on 32 pixels, MoCo v2 and CLIM."""

import dataclasses

from benchmarks.accelerator_phases import programs
from benchmarks.accelerator_phases.phase import Phase
from benchmarks.accelerator_phases.step import measure_peer, measure_step

_SHAPE = programs.Shape("resnet18", "cifar", (32,), 512, 4096, programs.CIFAR)
_QUICK = dict(
  policy=programs.QUICK,
  backbone="resnet_small",
  width=8,
  hidden=32,
  batch=64,
  queue=256,
)


def shape(phase: Phase) -> programs.Shape:
  return phase.sized(_SHAPE, dataclasses.replace(_SHAPE, **_QUICK))


def measure(phase: Phase) -> None:
  wanted = shape(phase)
  steps = phase.sized(50, 3)
  cases = (("MoCo v2", False), ("CLIM", True))
  # The peer first: JAX keeps most of the device's memory to the end of the process.
  for case, positives in cases:
    measure_peer(phase, case, wanted, positives=positives, steps=steps, seconds=120)
  for case, positives in cases:
    with phase.attempt(case):
      measure_step(phase, case, wanted, positives=positives, steps=steps)
