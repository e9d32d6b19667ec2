"""Starts what is asked for: devices, workdir, mode."""

import io
import json
import os
import sys

# TensorFlow only reads images: no notes on its kernels.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from collections.abc import Callable
from typing import NamedTuple

import jax
from etils import epath
from ml_collections import ConfigDict
from rich.console import Console
from rich.progress import track

from clim_jax import devices, sharding
from clim_jax.data.place import place_of
from clim_jax.data.source import BadImageError
from clim_jax.evaluate.datasets import evaluation_sets
from clim_jax.evaluate.embed import embed
from clim_jax.evaluate.report import judge
from clim_jax.experiment import configuration, cores, images, processes
from clim_jax.experiment.cautions import cautions, tell_of, warn
from clim_jax.experiment.checkpoints import first_line
from clim_jax.experiment.configuration import WHOLE_CONFIG, ConfigError, Overrides
from clim_jax.experiment.experiment import Experiment, make_encoder, open_experiment
from clim_jax.experiment.limits import check_evaluation, with_groups
from clim_jax.experiment.runs import Trained, open_run, open_trained
from clim_jax.experiment.workdir import only_run
from clim_jax.memory import keep_freed_memory
from clim_jax.plan.forecast import CannotFit
from clim_jax.plan.here import plan_here
from clim_jax.plan.table import print_table
from clim_jax.plan.tpu.target import open_target, plan_target
from clim_jax.pretrain import learning
from clim_jax.pretrain.destinations.sender import check_installed
from clim_jax.pretrain.phases import Phases
from clim_jax.pretrain.pretrain import pretrain
from clim_jax.probes.subjects import Subject
from clim_jax.report import card, page
from clim_jax.report.pictures import Sources
from clim_jax.weights.error import WeightsError
from clim_jax.weights.export import export
from clim_jax.weights.spec import Network, Preprocessing
from clim_jax.whole import written_whole

# After so many seconds a process that is not heard of counts as dead, and ends others.
_SILENCE = 60
_CACHE = epath.Path("~/.cache/clim_jax").expanduser()


def join_processes(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
  """Makes this process one of several; where the cluster is known, None will do."""
  jax.distributed.initialize(
    coordinator,
    num_processes,
    process_id,
    heartbeat_timeout_seconds=_SILENCE,
  )


class Request(NamedTuple):
  """What is asked for besides the config."""

  input: str = ""  # a folder of images
  output: str = ""
  format: str = ""
  overrides: Overrides = WHOLE_CONFIG  # of a run that is looked at again
  quiet: bool = False  # only warnings are said
  target: str = ""  # what is planned for, such as "tpu:v5e:2x4"; "": this machine
  price_per_hour: float | None = None  # of it
  atlas: bool = False  # what is embedded, with what embedding-atlas shows


_PLAIN = Request()


def run(
  config: ConfigDict,
  mode: str,
  workdir: epath.Path,
  request: Request = _PLAIN,
) -> None:
  """Does what the mode says; after pretraining comes an evaluation.

  Args:
    config: what to run; with a run in `workdir`, the saved config stands, save for
      its free sections.
    mode: one of MODES.
    workdir: where a run lives. Without one there, `model.weights` takes its place in
      all modes but pretraining.
    request: files of embed and export, and what is overridden.

  Raises:
    ConfigError: the config cannot work, or is not that of the run in `workdir`.
  """
  cores.use_cores(config, mode, workdir, request.overrides)
  prepare()
  # A quiet console still prints warnings, but not from every process.
  others = jax.process_index() != 0
  console = Console(
    quiet=request.quiet or others, file=io.StringIO() if others else None
  )
  _MODES[mode](config, workdir, console, request)


def prepare() -> None:
  """What everything gains by: memory is kept, and programs from run to run."""
  devices.pass_over_absent_tpu()
  keep_freed_memory(of_programs=jax.default_backend() == "cpu")
  # Unless the user says where or not.
  if jax.config.jax_compilation_cache_dir is None:
    jax.config.update("jax_compilation_cache_dir", str(_CACHE))


def _pretrain(
  config: ConfigDict, workdir: epath.Path, console: Console, _: Request
) -> None:
  config = with_groups(config, devices=jax.device_count())
  experiment = open_experiment(config)
  check_installed(config.log.destinations)
  processes.check_same(config, experiment.train, workdir)
  saved = workdir / "config.json"  # read by all before the first of them writes it
  changes = configuration.changes(config, saved) if saved.exists() else []
  _check_images(experiment, workdir / images.FILE, changes)
  with only_run(workdir):
    if not saved.exists() and (workdir / "checkpoints").exists():
      warn(
        console,
        [f"{saved} is missing: the checkpoints are taken for those of this config"],
      )
    _introduce(experiment, workdir, console)
    for change in changes:
      console.print(f"changed: {change}; {change.effect}", soft_wrap=True)
    state = pretrain(experiment, workdir, console, changes)
  role = config.evaluation.encoder
  variables = {
    "params": getattr(state, f"{role}_params"),
    "batch_stats": getattr(state, f"{role}_stats"),
  }
  subject = Subject(
    workdir.name, make_encoder(config, experiment.mesh, groups=1), variables
  )
  step = int(state.step)
  origin = str(workdir / "checkpoints" / str(step))
  trained = Trained(subject, config, step, origin, has_projection=True)
  if config.evaluation.best:
    trained = open_run(config, workdir, experiment.mesh, WHOLE_CONFIG)
  sets = evaluation_sets(config, (experiment.train, experiment.test))
  phases = Phases()
  with phases("evaluation"):
    judge(trained, sets, workdir, console, learning.findings_of(workdir, config))
  if config.report.at_end:
    with phases("report"):
      _try_report(config, workdir, console, (experiment.train, experiment.test))
  console.print(phases.summary(), highlight=False)
  _say_next(workdir, step, console)


def _plan(
  config: ConfigDict, workdir: epath.Path, console: Console, request: Request
) -> None:
  target, price = request.target, request.price_per_hour
  opened = open_target(config, target) if target else open_experiment(config)
  tell_of(console, opened.train, opened.test)
  if target:
    forecast = plan_target(opened, target, workdir, console, price)
  else:
    forecast = plan_here(opened, workdir, console, price)
  if jax.process_index() == 0:
    workdir.mkdir(parents=True, exist_ok=True)
    with written_whole(workdir / "plan.json") as beside:
      beside.write_text(json.dumps(forecast.record(), indent=2) + "\n")
  print_table(forecast, console)
  for note in forecast.notes:
    console.print(note, highlight=False, soft_wrap=True)
  warn(console, forecast.warnings)
  console.print(f"written to {workdir}: plan.json", highlight=False, soft_wrap=True)
  if forecast.faults:
    raise CannotFit("; ".join(forecast.faults))


def _check_images(
  experiment: Experiment, path: epath.Path, changes: list[configuration.Change]
) -> None:
  """Raises ConfigError if they are not those of the run, or cannot be compared."""
  if path.exists():
    images.check_same(experiment.train, path)
  elif any(change.key == "data.path" for change in changes):
    raise ConfigError(
      "the run has no list of its images to compare those of another data.path with: "
      "give the former path once more"
    )


def _introduce(experiment: Experiment, workdir: epath.Path, console: Console) -> None:
  """What is trained, on what and where to, and what may surprise."""
  config, num_images = experiment.config, experiment.train.num_images
  steps, queue_size = experiment.stream.steps_per_epoch, config.moco.queue_size
  place = place_of(experiment.train, experiment.mesh)
  for line in (
    f"{config.name}: {num_images:,} images, {config.epochs} epochs of {steps:,} steps",
    f"training on {devices.describe(jax.devices())}, into {workdir}",
    f"crops are cut on the {'device' if place.on_device else 'host'}: {place.why}",
    f"a loss near log(1 + {queue_size}) = {learning.chance_loss(queue_size):.2f} is "
    "chance",
  ):
    console.print(line, highlight=False, soft_wrap=True)
  tell_of(console, experiment.train, experiment.test)
  unused = devices.unused_accelerator()
  warn(console, [unused] if unused else [])
  total_steps = experiment.total_steps
  warn(console, cautions(config, num_images=num_images, total_steps=total_steps))


def _say_next(workdir: epath.Path, step: int, console: Console) -> None:
  """What there is now and what can be done with it."""
  called = os.path.basename(sys.argv[0])
  program = "python main.py" if called == "main.py" else "clim"
  run = f"--workdir={workdir}"
  report = f"{program} report {run}"
  if (workdir / page.PAGE).exists():
    report = str(workdir / page.PAGE)
  weights = "--format=torchvision --output=backbone.safetensors"  # .pth needs torch
  for what, how in (
    ("checkpoint", f"{workdir}/checkpoints/{step}"),
    ("report", report),
    ("curves", f"tensorboard --logdir={workdir}"),
    ("features", f"{program} embed {run} --input=FOLDER --output=features.parquet"),
    ("weights", f"{program} export {run} {weights}"),
  ):
    console.print(f"{what:<12}{how}", highlight=False, soft_wrap=True)


def _evaluate(
  config: ConfigDict, workdir: epath.Path, console: Console, request: Request
) -> None:
  mesh = sharding.make_mesh()
  trained = open_trained(config, workdir, mesh, console, request.overrides)
  check_evaluation(trained.config, devices=mesh.devices.size)
  sets, warnings = evaluation_sets(trained.config), []
  for data in sets:
    tell_of(console, data.train, data.test)
  if trained.step is not None:
    warnings = learning.findings_of(workdir, trained.config)
  judge(trained, sets, workdir, console, warnings)
  if (workdir / page.PAGE).exists():
    _try_report(trained.config, workdir, console, None)


def _try_report(
  config: ConfigDict, workdir: epath.Path, console: Console, sources: Sources | None
) -> None:
  """The page of a run, at whose end nothing may fail; by one process alone."""
  if jax.process_count() > 1:
    return
  try:
    with console.status("making the report"):
      page.write_report(config, workdir, sources=sources)
  except Exception as error:
    why = first_line(error)
    warn(console, [f"no report ({why}); the run is whole, and mode report tries again"])


def _report(
  config: ConfigDict, workdir: epath.Path, console: Console, request: Request
) -> None:
  if jax.process_count() > 1:
    raise ConfigError("a report is made by one process: leave --distributed out")
  with console.status("making the report"):
    path = page.write_report(config, workdir, request.overrides)
  console.print(str(path), highlight=False, soft_wrap=True)


def _embed(
  config: ConfigDict, workdir: epath.Path, console: Console, request: Request
) -> None:
  mesh = sharding.make_mesh()
  trained = open_trained(config, workdir, mesh, console, request.overrides)
  check_evaluation(trained.config, devices=mesh.devices.size)
  written, left_out = embed(
    trained,
    mesh,
    request.input,
    epath.Path(request.output),
    console,
    lambda batches: track(
      batches, "embed", console=console, transient=True, disable=not console.is_terminal
    ),
    atlas=request.atlas,
  )
  note = f", {left_out} that cannot be decoded are left out" if left_out else ""
  console.print(f"{written} images embedded{note}: {request.output}", soft_wrap=True)


def _check(
  config: ConfigDict, workdir: epath.Path, console: Console, request: Request
) -> None:
  saved = workdir / "config.json"
  if saved.exists():
    config = configuration.restore_into(config, saved, request.overrides)
  from clim_jax.sets.check import check  # TensorFlow

  report = check(config, workdir, console)
  if broken := report["broken"]:
    name, why = next(iter(broken.items()))
    what = "1 image is" if len(broken) == 1 else f"{len(broken)} images are"
    raise BadImageError(f"{what} broken: {name}: {why}")


def _export(
  config: ConfigDict, workdir: epath.Path, console: Console, request: Request
) -> None:
  trained = open_trained(
    config, workdir, sharding.make_mesh(), console, request.overrides
  )
  if jax.process_index() != 0:
    return
  is_for_hub = request.format == "hub-folder"
  if is_for_hub and trained.step is None:
    raise ConfigError(
      "hub-folder writes a card of a run, and model.weights has none: give the "
      "--workdir of a run, or another --format"
    )
  model, views = trained.config.model, trained.config.views
  data, variables = trained.config.data, jax.device_get(trained.subject.variables)
  network = Network(model.backbone, model.stem, model.width)
  preprocessing = Preprocessing(
    views.evaluation_side,
    views.evaluation_fraction,
    tuple(data.pixel_mean),
    tuple(data.pixel_std),
  )
  try:
    export(
      request.format,
      request.output,
      variables["params"],
      variables["batch_stats"],
      network,
      preprocessing,
    )
  except WeightsError as error:
    raise ConfigError(str(error)) from error
  if is_for_hub:
    output = epath.Path(request.output)
    card.write_card(workdir, output, network, preprocessing, trained.about())
  console.print(f"{trained.origin} exported to {request.output}", soft_wrap=True)


_MODES: dict[str, Callable[[ConfigDict, epath.Path, Console, Request], None]] = {
  "pretrain": _pretrain,
  "plan": _plan,
  "evaluate": _evaluate,
  "embed": _embed,
  "check": _check,
  "export": _export,
  "report": _report,
}
MODES = tuple(_MODES)
