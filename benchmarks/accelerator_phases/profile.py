"""A trace of some steps of each network, and its five longest operations."""

import collections

import jax

from benchmarks.accelerator_phases import cifar_step, imagenet_step, programs
from benchmarks.accelerator_phases.phase import Phase
from clim_jax import sharding

_LONGEST = 5


def measure(phase: Phase) -> None:
  steps = phase.sized(20, 2)
  for module in (cifar_step, imagenet_step):
    network = module.__name__.rsplit(".", 1)[-1]
    with phase.attempt(network):
      shape, mesh = module.shape(phase), sharding.make_mesh()
      program = programs.make_program(mesh, shape)
      batch = programs.random_batch(shape, positives=False)
      batch = sharding.put_rows(mesh, batch)
      state = programs.run_steps(program.step, program.state, batch, 2)
      trace = phase.out / f"trace-{network}"
      with jax.profiler.trace(str(trace)):
        state = programs.run_steps(program.step, state, batch, steps)
      del program, state
      total, longest = _longest_operations(trace)
      phase.report(
        network, steps=steps, batch=shape.batch, busy_seconds=total, longest=longest
      )


def _longest_operations(trace) -> tuple[float, list[dict]]:  # noqa: ANN001
  """Seconds of all operations of the devices, and those of the longest by name."""
  (path,) = trace.rglob("*.xplane.pb")
  seconds: dict[str, float] = collections.Counter()
  calls: dict[str, int] = collections.Counter()
  data = jax.profiler.ProfileData.from_file(str(path))
  for plane in data.planes:
    for line in plane.lines:
      if not _is_of_operations(plane.name, line.name):
        continue
      for event in line.events:
        if "::" in event.name:  # a CPU's executor, which waits for the others
          continue
        seconds[event.name] += event.duration_ns * 1e-9
        calls[event.name] += 1
  if not seconds:
    names = [
      f"{plane.name}/{line.name}" for plane in data.planes for line in plane.lines
    ]
    raise ValueError(f"no operation in the trace, only {names}")
  longest = [
    {"operation": name[:200], "seconds": taken, "calls": calls[name]}
    for name, taken in seconds.most_common(_LONGEST)
  ]
  return sum(seconds.values()), longest


def _is_of_operations(plane: str, line: str) -> bool:
  """GPU: streams; TPU: its line of operations; CPU: XLA's threads."""
  if plane.startswith("/device:GPU"):
    return line.startswith("Stream")
  if plane.startswith("/device:TPU"):
    return line == "XLA Ops"
  return plane == "/host:CPU" and "XLA" in line
