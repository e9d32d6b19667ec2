"""Mode pretrain: training, evaluation and report, one after the other."""

import os
import sys

import jax
from etils import epath
from ml_collections import ConfigDict
from rich.console import Console

from clim_jax import devices
from clim_jax.data.place import place_of
from clim_jax.evaluate.datasets import evaluation_sets
from clim_jax.evaluate.report import judge
from clim_jax.experiment import configuration, images, processes
from clim_jax.experiment.cautions import cautions, tell_of, warn
from clim_jax.experiment.configuration import WHOLE_CONFIG, ConfigError
from clim_jax.experiment.experiment import Experiment, make_encoder, open_experiment
from clim_jax.experiment.limits import with_groups
from clim_jax.experiment.runs import Trained, open_run
from clim_jax.experiment.workdir import only_run
from clim_jax.launch.request import Request
from clim_jax.pretrain import learning
from clim_jax.pretrain.destinations.sender import check_installed
from clim_jax.pretrain.phases import Phases
from clim_jax.pretrain.pretrain import pretrain
from clim_jax.probes.subjects import Subject
from clim_jax.report import page


def pretrain_and_judge(
  config: ConfigDict, workdir: epath.Path, console: Console, _: Request
) -> None:
  """A run to its end, its evaluation and its page; goes on with one that is there."""
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
      page.try_report(config, workdir, console, (experiment.train, experiment.test))
  console.print(phases.summary(), highlight=False)
  _say_next(workdir, step, console)


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
