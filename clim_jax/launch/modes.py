"""What each mode does."""

import json
from collections.abc import Callable

import jax
from etils import epath
from ml_collections import ConfigDict
from rich.console import Console
from rich.progress import track

from clim_jax import sharding
from clim_jax.data.source import BadImageError
from clim_jax.evaluate.datasets import evaluation_sets
from clim_jax.evaluate.embed import embed
from clim_jax.evaluate.report import judge
from clim_jax.experiment import configuration
from clim_jax.experiment.cautions import tell_of, warn
from clim_jax.experiment.configuration import ConfigError
from clim_jax.experiment.experiment import open_experiment
from clim_jax.experiment.limits import check_evaluation
from clim_jax.experiment.runs import open_trained
from clim_jax.launch.pretraining import pretrain_and_judge
from clim_jax.launch.request import Request
from clim_jax.plan.forecast import CannotFit
from clim_jax.plan.here import plan_here
from clim_jax.plan.table import print_table
from clim_jax.plan.tpu.target import open_target, plan_target
from clim_jax.pretrain import learning
from clim_jax.report import card, page
from clim_jax.weights.error import WeightsError
from clim_jax.weights.export import export
from clim_jax.weights.spec import Network, Preprocessing
from clim_jax.whole import written_whole


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
    page.try_report(trained.config, workdir, console, None)


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


MODES: dict[str, Callable[[ConfigDict, epath.Path, Console, Request], None]] = {
  "pretrain": pretrain_and_judge,
  "plan": _plan,
  "evaluate": _evaluate,
  "embed": _embed,
  "check": _check,
  "export": _export,
  "report": _report,
}
