"""Plans a run on this machine: counts, compiles, and does a little of it."""

import resource
import shutil
import sys
import time
from typing import NamedTuple

import jax
from etils import epath
from rich.console import Console

from clim_jax import devices
from clim_jax.data.place import is_on_device
from clim_jax.devices import device_memory
from clim_jax.evaluate.datasets import evaluation_sets
from clim_jax.experiment.cautions import cautions
from clim_jax.experiment.experiment import Experiment
from clim_jax.plan import programs, stopwatch
from clim_jax.plan.forecast import (
  Disk,
  Forecast,
  Hardware,
  Images,
  Seconds,
  disk_faults,
  memory_fault,
)
from clim_jax.plan.images import count_classes
from clim_jax.plan.memory import count_parameters, memory_of, tree_bytes
from clim_jax.plan.programs import CompiledStep
from clim_jax.plan.schedule import Schedule, schedule_of
from clim_jax.selection.positives import Positives

_MUCH_WAITING = 0.25  # share of a step
_GIB = 2**30


class Trial(NamedTuple):
  """What a few steps of a run have shown."""

  seconds: Seconds
  images_per_second: float
  checkpoint_bytes: int


def plan_here(
  experiment: Experiment,
  workdir: epath.Path,
  console: Console,
  price_per_hour: float | None = None,
) -> Forecast:
  """What a run will take; nothing is run where it would not fit.

  Args:
    experiment: the run.
    workdir: where it will live; a checkpoint is written there and removed.
    console: shows how far it is.
    price_per_hour: of this machine, if the run is to be priced.
  """
  config, mesh, schedule = experiment.config, experiment.mesh, schedule_of(experiment)
  table = stopwatch.any_positives(experiment.train.num_images)
  tables = {kind: table if kind == "mixed" else None for kind in schedule.by_kind}
  with console.status("compiling: seconds, or minutes for a large network"):
    batches = {
      kind: next(experiment.batches(0, 1, positives))
      for kind, positives in tables.items()
    }
    steps = programs.compile_steps(experiment, batches, jax.stages.Lowered.compile)
    selection = []
    if schedule.selections:
      selection = [low.compile() for low in programs.lower_selection(experiment)]
  shapes = programs.abstract_state(experiment)
  compiled = [step.program for step in steps.values()]
  memory = memory_of(experiment, shapes, compiled, selection)
  device, count = mesh.devices.flat[0], mesh.devices.size
  hardware = Hardware(
    devices.describe(list(mesh.devices.flat)), count, device_memory(device) or None
  )
  on_cpu, needed, faults = device.platform == "cpu", memory.peak, []
  if on_cpu:  # its devices share the machine, also with what else the process holds
    needed += _held() // count
  if hardware.memory is not None and needed > hardware.memory:
    said = f"{needed / _GIB:.1f} GiB a device"
    faults.append(memory_fault(config, said, hardware.memory))
  trial = None
  if not faults:
    trial = _try(experiment, steps, tables, workdir, console)
  disk = disk_of(experiment, schedule, workdir, trial and trial.checkpoint_bytes)
  warnings = warnings_of(experiment)
  waits = trial and trial.seconds.waiting > _MUCH_WAITING
  if waits and not on_cpu and not is_on_device(experiment.train, mesh):
    from clim_jax.data.diagnosis import measure_stages  # TensorFlow

    stages = measure_stages(experiment.train, experiment.view_plan)
    warnings.append(stages.advice(trial.seconds.waiting))
  return Forecast(
    config=config.name,
    hardware=hardware,
    images=images_of(experiment, trial.images_per_second if trial else 0.0),
    parameters=count_parameters(shapes),
    flop_per_step={kind: step.flops * count for kind, step in steps.items()},
    schedule=schedule,
    memory=memory,
    process_bytes=_most_held() if trial else None,
    disk=disk,
    seconds=trial.seconds if trial else None,
    price_per_hour=price_per_hour,
    notes=[],
    warnings=warnings,
    faults=faults + disk_faults(disk),
  )


def images_of(experiment: Experiment, per_second: float) -> Images:
  train, test = experiment.train, experiment.test
  return Images(
    train=train.num_images,
    test=test.num_images if test is not None else 0,
    classes=count_classes(train),
    per_second=per_second,
  )


def warnings_of(experiment: Experiment) -> list[str]:
  """What is told before the first step, and that there will be no figures."""
  config, train = experiment.config, experiment.train
  found = cautions(
    config, num_images=train.num_images, total_steps=experiment.total_steps
  )
  if not evaluation_sets(config, (train, experiment.test)):
    found.append(
      "no evaluation after training: it needs labels and test images; give "
      "evaluation.datasets, or sort the images into a folder a class"
    )
  return found


def labelled_images(experiment: Experiment) -> int:
  """Images that the evaluation encodes, as often as it does."""
  config = experiment.config
  sets = evaluation_sets(config, (experiment.train, experiment.test))
  encoders = 1 + ("untrained" in config.evaluation.references)
  images = sum(data.train.num_images + data.test.num_images for data in sets)
  return images * encoders * len(config.evaluation.scales)


def disk_of(
  experiment: Experiment,
  schedule: Schedule,
  workdir: epath.Path,
  state_bytes: int | None,
) -> Disk:
  """With the table of positives: ids of all neighbours at most, start and count."""
  if state_bytes is None:
    state_bytes = tree_bytes(programs.abstract_state(experiment))
  neighbours = experiment.config.selection.num_neighbours
  table = experiment.train.num_images * (4 * neighbours + 8 + 4)
  one = state_bytes + (table if schedule.selections else 0)
  free = None
  if "://" not in str(workdir):
    there = next(
      path for path in (workdir, *workdir.absolute().parents) if path.exists()
    )
    free = shutil.disk_usage(there).free
  return Disk(checkpoint=one, kept=one * schedule.saves_kept, free=free)


def _try(
  experiment: Experiment,
  steps: dict[str, CompiledStep],
  tables: dict[str, Positives | None],
  workdir: epath.Path,
  console: Console,
) -> Trial:
  schedule, started = schedule_of(experiment), time.perf_counter()
  state = jax.block_until_ready(experiment.init_state())
  starting = time.perf_counter() - started
  starting += sum(step.tracing + _paid_again(step.compiling) for step in steps.values())
  times = {}
  for kind, step in steps.items():
    with console.status(f"training for a few steps ({kind})"):
      state, times[kind] = stopwatch.time_steps(
        experiment, step.program, state, tables[kind]
      )
  with console.status("reading images"):
    speed = stopwatch.time_input(experiment, tables[list(steps)[-1]])
  with console.status("looking for similar images"):
    selection = stopwatch.time_selection(experiment, state)
  with console.status("saving"):
    saved = stopwatch.time_save(workdir / "plan-checkpoint", state)
  by_kind = {kind: times[kind].seconds * n for kind, n in schedule.by_kind.items()}
  all_steps = sum(by_kind.values())
  waiting = sum(times[kind].waiting * part for kind, part in by_kind.items())
  encode = selection.bank / experiment.train.num_images
  seconds = Seconds(
    measured=True,
    plain_step=times["plain"].seconds if "plain" in times else None,
    mixed_step=times["mixed"].seconds if "mixed" in times else None,
    waiting=waiting / all_steps,
    selection=selection.bank + selection.search,
    starting=starting + bool(schedule.selections) * selection.compiling,
    steps=all_steps,
    selections=schedule.selections * (selection.bank + selection.search),
    saves=schedule.saves * saved.blocking + saved.writing,
    evaluation=encode * labelled_images(experiment),
  )
  return Trial(seconds, speed, saved.size)


def _paid_again(compiling: float) -> float:
  """Seconds of a compilation that the run will spend once more."""
  config = jax.config
  kept = config.jax_compilation_cache_dir and config.jax_enable_compilation_cache
  is_kept = kept and compiling >= config.jax_persistent_cache_min_compile_time_secs
  return 0.0 if is_kept else compiling


def _held() -> int:
  """Bytes that this process holds now; where that is not told, the most it has held."""
  path = epath.Path("/proc/self/statm")
  if not path.exists():
    return _most_held()
  return int(path.read_text().split()[1]) * resource.getpagesize()


def _most_held() -> int:
  unit = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
