"""Plans a run on TPUs that are not there: libtpu compiles its programs for them."""

import contextlib
import dataclasses
import importlib.util
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import joblib
from etils import epath
from ml_collections import ConfigDict
from rich.console import Console

from clim_jax import sharding
from clim_jax.experiment.error import ConfigError
from clim_jax.experiment.experiment import Experiment, open_experiment
from clim_jax.plan import programs, stopwatch
from clim_jax.plan.forecast import (
  Forecast,
  Hardware,
  Seconds,
  disk_faults,
  memory_fault,
)
from clim_jax.plan.here import disk_of, images_of, labelled_images, warnings_of
from clim_jax.plan.memory import Memory, count_parameters, memory_of
from clim_jax.plan.programs import CompiledStep
from clim_jax.plan.schedule import schedule_of
from clim_jax.plan.tpu import chips, traffic
from clim_jax.pretrain.flops import count_flops
from clim_jax.probes.subjects import apply
from clim_jax.selection.positives import RULES

_GIB = 2**30


def open_target(config: ConfigDict, target: str) -> Experiment:
  """The run on the devices of a target such as "tpu:v5e:2x4".

  Raises:
    ConfigError: there is no such target, libtpu is not installed, or the config cannot
      work there.
  """
  platform, _, topology = target.partition(":")
  known = ", ".join(f"tpu:{name}" for name in chips.TOPOLOGIES)
  if platform != "tpu" or not topology:
    raise ConfigError(f"--target={target} must be one such as {known}")
  if importlib.util.find_spec("libtpu") is None:
    raise ConfigError(
      f"--target={target} needs TPU's compiler: pip install 'libtpu>=0.0.40,<0.1' "
      "(Linux, x86-64)"
    )
  try:
    mesh = chips.topology_mesh(topology)
    chips.chip_of(mesh)
  except Exception as error:  # whatever libtpu says of a name that it does not know
    raise ConfigError(
      f"--target={target}: libtpu knows no such topology, or nothing is published of "
      f"its chips; known are {known}"
    ) from error
  return open_experiment(config, mesh)


def plan_target(
  experiment: Experiment,
  target: str,
  workdir: epath.Path,
  console: Console,
  price_per_hour: float | None = None,
) -> Forecast:
  """Memory as compiled, and the least time by the chips' published peaks.

  Args:
    experiment: of `open_target`.
    target: as it was asked for.
    workdir: where the run will live.
    console: shows how far it is.
    price_per_hour: of all its chips together, if the run is to be priced.
  """
  config, mesh, schedule = experiment.config, experiment.mesh, schedule_of(experiment)
  chip, count = chips.chip_of(mesh), mesh.devices.size
  shapes, steps, faults = programs.abstract_state(experiment), {}, []
  memory: Memory | None = None
  with console.status("compiling for TPU: seconds, or minutes for a large network"):
    try:
      steps, memory = _compile(experiment)
    except jax.errors.JaxRuntimeError as error:
      if "RESOURCE_EXHAUSTED" not in str(error):
        raise
      said = f"more than a chip has ({_told(error)})"
      faults.append(memory_fault(config, said, chip.memory))
  if memory is not None and memory.peak > chip.memory:
    said = f"{memory.peak / _GIB:.1f} GiB a chip"
    faults.append(memory_fault(config, said, chip.memory))
  disk = disk_of(experiment, schedule, workdir, None)
  with console.status("reading images"):
    table = None
    if schedule.selections:
      table = stopwatch.any_positives(experiment.train.num_images)
    here = dataclasses.replace(
      experiment, mesh=sharding.make_mesh(jax.local_devices()[:1])
    )
    per_second = stopwatch.time_input(here, table)
  seconds = _seconds(experiment, steps) if steps else None
  return Forecast(
    config=config.name,
    hardware=Hardware(
      mesh.devices.flat[0].device_kind, count, int(chip.memory), target
    ),
    images=images_of(experiment, per_second),
    parameters=count_parameters(shapes),
    flop_per_step={kind: step.flops * count for kind, step in steps.items()},
    schedule=schedule,
    memory=memory,
    process_bytes=None,
    disk=disk,
    seconds=seconds,
    price_per_hour=price_per_hour,
    notes=list(_notes(experiment, seconds, per_second)),
    warnings=warnings_of(experiment),
    faults=faults + disk_faults(disk),
  )


def _compile(experiment: Experiment) -> tuple[dict[str, CompiledStep], Memory]:
  schedule, mesh = schedule_of(experiment), experiment.mesh
  batches = {
    kind: programs.abstract_batch(experiment, mixed=kind == "mixed")
    for kind in schedule.by_kind
  }
  with _nothing_kept():
    steps = programs.compile_steps(
      experiment, batches, lambda lowered: chips.compile_readably(lowered, mesh)
    )
    selection = []
    if schedule.selections:
      lowered = programs.lower_selection(experiment)
      selection = [chips.compile_readably(program, mesh) for program in lowered]
  shapes = programs.abstract_state(experiment)
  compiled = [step.program for step in steps.values()]
  return steps, memory_of(experiment, shapes, compiled, selection)


@contextlib.contextmanager
def _nothing_kept() -> Iterator[None]:
  """Programs of other machines could be written, but not read again."""
  enabled = jax.config.jax_enable_compilation_cache
  jax.config.update("jax_enable_compilation_cache", False)
  try:
    yield
  finally:
    jax.config.update("jax_enable_compilation_cache", enabled)


def _told(error: Exception) -> str:
  """What the compiler says of the memory: the first sentence with a size in it."""
  lines = str(error).splitlines()
  return next((line.strip() for line in lines if "hbm" in line.lower()), lines[0])[:200]


def _seconds(experiment: Experiment, steps: dict[str, CompiledStep]) -> Seconds:
  """At the published peaks; what is done once is not known, and put at nothing."""
  schedule, chip = schedule_of(experiment), chips.chip_of(experiment.mesh)
  by_kind = {kind: _roofline(step, chip) for kind, step in steps.items()}
  plain, mixed = by_kind.get("plain"), by_kind.get("mixed")
  all_devices = chip.flops * experiment.mesh.devices.size
  encode = _forward_flops(experiment) / all_devices
  selection = experiment.train.num_images * encode
  selection += _search_flops(experiment) / all_devices
  return Seconds(
    measured=False,
    plain_step=plain,
    mixed_step=mixed,
    waiting=0.0,
    selection=selection,
    starting=0.0,
    steps=schedule.plain_steps * (plain or 0) + schedule.mixed_steps * (mixed or 0),
    selections=schedule.selections * selection,
    saves=0.0,
    evaluation=encode * labelled_images(experiment),
  )


def _roofline(step: CompiledStep, chip: chips.Chip) -> float:
  """Seconds that its FLOP, or its bytes to and from HBM, take at least."""
  moved = traffic.hbm_bytes(step.program.as_text())
  return max(step.flops / chip.flops, moved / chip.bandwidth)


def _forward_flops(experiment: Experiment) -> int:
  """Of the features of one image."""
  config, state = experiment.config, jax.eval_shape(experiment.init_state)
  variables = {"params": state.key_params, "batch_stats": state.key_stats}
  side, encoder = config.views.evaluation_side, experiment.encoder
  image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)
  traced = jax.jit(lambda v, x: apply(encoder, v, x)[0]).trace(variables, image)
  return count_flops(traced.jaxpr.jaxpr)


def _search_flops(experiment: Experiment) -> int:
  """Products of every image with every other, and with the centers."""
  config, images = experiment.config.selection, experiment.train.num_images
  conditions, products = RULES[config.rule], 0
  if "a" in conditions and not experiment.selection.is_pruned:
    products += images
  if "b" in conditions:
    products += config.num_centers * config.kmeans_iterations
  return 2 * images * products * experiment.feature_dim


def _notes(
  experiment: Experiment, seconds: Seconds | None, per_second: float
) -> Iterator[str]:
  """What the hosts must bring, and what the least time leaves out."""
  if seconds is None:
    return
  yield (
    "times are the least that FLOP and bytes of the compiled programs allow at the "
    "chips' published peaks: compiling, saving and waiting come on top"
  )
  step = min(s for s in (seconds.plain_step, seconds.mixed_step) if s is not None)
  hosts = len({device.process_index for device in experiment.mesh.devices.flat})
  wanted = experiment.config.batch_size / step / hosts
  cores = joblib.cpu_count()
  yield (
    f"{hosts} {'host' if hosts == 1 else 'hosts'} must read and crop up to "
    f"{wanted:,.0f} images/s each; the {cores} cores of this machine bring "
    f"{per_second:,.0f}: some {math.ceil(wanted / per_second * cores)} such cores"
  )
