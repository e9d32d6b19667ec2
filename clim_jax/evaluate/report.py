"""Evaluates encoders and tells people: a table, evaluation.json, curves."""

from collections.abc import Iterator

import jax
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict
from rich.console import Console

from clim_jax import sharding
from clim_jax.evaluate import results
from clim_jax.evaluate.curves import draw_curves
from clim_jax.evaluate.datasets import LabelledSet
from clim_jax.evaluate.evaluation import evaluate
from clim_jax.evaluate.results import Result
from clim_jax.experiment import configuration
from clim_jax.experiment.cautions import warn
from clim_jax.experiment.configuration import ConfigError
from clim_jax.experiment.runs import Trained, open_run
from clim_jax.probes.subjects import REFERENCES
from clim_jax.whole import written_whole


def judge(
  trained: Trained,
  sets: list[LabelledSet],
  workdir: epath.Path,
  console: Console,
  warnings: list[str],
) -> None:
  """Evaluates an encoder, beside others if asked, and writes what was found.

  The file is written anew after each protocol, so that nothing is lost if a later one
  fails.

  Args:
    trained: what is judged.
    sets: on which.
    workdir: where the files go.
    console: shows how far it is, and the table.
    warnings: about the training, to stand beside the figures.

  Raises:
    ConfigError: see `evaluation.evaluate`; names that clash; nothing to be found.
  """
  if not sets:
    console.print("no evaluation: it needs labels and test images")
    warn(console, warnings)
    return
  config, mesh = trained.config, sharding.make_mesh()
  runs = (trained, *_others(config, mesh))
  _check_names([run.subject.name for run in runs])
  name = "evaluation" + f"-{config.evaluation.name}" * bool(config.evaluation.name)
  encoders = {run.subject.name: run.about() for run in runs}
  judged = trained.subject.name
  names = results.encoder_names(judged, is_run=trained.step is not None)
  found: list[Result] = []
  subjects = [run.subject for run in runs]
  for some in evaluate(config, mesh, sets, subjects, names, console):
    found += some
    told = warnings + results.no_better(found, judged, names)
    if jax.process_index() == 0:
      workdir.mkdir(parents=True, exist_ok=True)
      text = results.to_json(found, encoders=encoders, warnings=told)
      with written_whole(workdir / f"{name}.json") as beside:
        beside.write_text(text)
  if not found:
    counts = tuple(config.evaluation.few_label.counts)
    raise ConfigError(
      f"nothing to report: all of evaluation.few_label.counts {counts} exceed the "
      "smallest class; lower them or add to evaluation.protocols"
    )
  results.print_table(found, "Top-1 accuracy in %", names, console)
  warn(console, told)
  written = f"{name}.json"
  if jax.process_index() == 0 and draw_curves(found, names, workdir / f"{name}.png"):
    written += f" and {name}.png"
  console.print(f"written to {workdir}: {written}", highlight=False, soft_wrap=True)


def _others(config: ConfigDict, mesh: Mesh) -> Iterator[Trained]:
  """The newest checkpoints of the runs of `evaluation.compare`."""
  newest = config.copy_and_resolve_references()
  newest.evaluation.update(step=-1, checkpoint="")
  for text in config.evaluation.compare:
    name, _, workdir = text.rpartition("=")
    run = open_run(newest, epath.Path(workdir), mesh, configuration.WHOLE_CONFIG)
    named = run.subject._replace(name=name or run.subject.name)
    yield run._replace(subject=named)


def _check_names(names: list[str]) -> None:
  """Raises ConfigError unless each encoder has a name of its own."""
  if len({*names, *REFERENCES}) < len(names) + len(REFERENCES):
    raise ConfigError(
      f"the encoders are named {', '.join(names)}, by the last part of their workdirs; "
      f"they must differ, also from {', '.join(REFERENCES)}: give one another name by "
      "--config.evaluation.compare=\"('NAME=WORKDIR',)\""
    )
