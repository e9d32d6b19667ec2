"""Train steps beside PyTorch's: speed, share of the peak, memory."""

import dataclasses
import time

import jax

from benchmarks.accelerator_phases import programs
from benchmarks.accelerator_phases.phase import Phase, peak_memory_gib
from benchmarks.accelerator_phases.programs import Shape
from clim_jax import sharding
from clim_jax.pretrain.counted_step import CountedStep, peak_flops


def measure_step(
  phase: Phase, case: str, shape: Shape, *, positives: bool, steps: int
) -> None:
  """Reports our step with its augmentation and on given views.

  Views are uint8 on the device; nothing waits for input.
  """
  mesh = sharding.make_mesh()
  kinds = (("augmented", shape.policy), ("given", programs.NOTHING))
  alone = phase.quick and (positives or shape.stem == "imagenet")
  for views, policy in kinds[: 1 if alone else 2]:
    if not phase.wants(f"{case} {views}"):
      continue
    program = programs.make_program(mesh, dataclasses.replace(shape, policy=policy))
    batch = programs.random_batch(shape, positives=positives)
    batch = sharding.put_rows(mesh, batch)
    step, started = CountedStep(program.step), time.perf_counter()
    state = programs.run_steps(step, program.state, batch, 1)
    first = time.perf_counter() - started
    state = programs.run_steps(step, state, batch, 2)
    started = time.perf_counter()
    state = programs.run_steps(step, state, batch, steps)
    seconds = (time.perf_counter() - started) / steps
    peak = peak_flops(mesh.devices.flat[0].device_kind)
    phase.report(
      case,
      views=views,
      batch=shape.batch,
      devices=mesh.devices.size,
      dtype=str(program.encoder.dtype),
      first_step_seconds=first,
      milliseconds=1e3 * seconds,
      images_per_second=shape.batch / seconds,
      gflop_of_a_device=step.flops / 1e9,
      tflops_of_a_device=step.flops / seconds / 1e12,
      mfu=peak and step.flops / seconds / peak,
      peak_memory_gib=peak_memory_gib(),
    )
    del program, state


def measure_peer(
  phase: Phase, case: str, shape: Shape, *, positives: bool, steps: int, seconds: float
) -> None:
  """Reports PyTorch's step on given views."""
  phase.peer(
    f"{case}, PyTorch",
    "torch_step",
    seconds,
    backbone=shape.backbone,
    stem=shape.stem,
    width=shape.width,
    hidden=shape.hidden,
    sides=shape.sides,
    batch=shape.batch,
    queue=shape.queue,
    positives=positives,
    steps=steps,
  )


def is_out_of_memory(error: Exception) -> bool:
  return isinstance(error, jax.errors.JaxRuntimeError) and (
    "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)
  )
