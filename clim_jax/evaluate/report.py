"""Evaluates encoders and tells people: a table, evaluation.json, curves."""

import jax
from etils import epath
from ml_collections import ConfigDict
from rich.console import Console

from clim_jax import sharding
from clim_jax.configuration import ConfigError
from clim_jax.evaluate import results
from clim_jax.evaluate.curves import draw_curves
from clim_jax.evaluate.datasets import LabelledSet
from clim_jax.evaluate.evaluation import evaluate
from clim_jax.runs import Trained, open_run


def judge(
  trained: Trained, sets: list[LabelledSet], workdir: epath.Path, console: Console
) -> None:
  """Evaluates an encoder, beside others if asked, and writes what was found."""
  if not sets:
    console.print("no evaluation: it needs labels and test images")
    return
  config, mesh = trained.config, sharding.make_mesh()
  others = [
    open_run(_newest(config), epath.Path(other), mesh)
    for other in config.evaluation.compare
  ]
  judged = [run.subject for run in (trained, *others)]
  names = [subject.name for subject in judged]
  if len(set(names)) < len(names):
    raise ConfigError(
      f"evaluation.compare: the runs are named {', '.join(names)}, by the last part of "
      "their workdirs, which must differ: rename one"
    )
  found = evaluate(config, mesh, sets, judged, console)
  name = "evaluation" + f"-{config.evaluation.name}" * bool(config.evaluation.name)
  results.print_table(found, "Top-1 accuracy in %", console)
  if jax.process_index() != 0:
    return
  workdir.mkdir(parents=True, exist_ok=True)
  encoders = {run.subject.name: run.about() for run in (trained, *others)}
  (workdir / f"{name}.json").write_text(results.to_json(found, encoders=encoders))
  written = f"{name}.json"
  if draw_curves(found, workdir / f"{name}.png"):
    written += f" and {name}.png"
  console.print(f"written to {workdir}: {written}", highlight=False, soft_wrap=True)


def _newest(config: ConfigDict) -> ConfigDict:
  """For another run: neither the step nor the folder that was asked of the first."""
  config = config.copy_and_resolve_references()
  config.evaluation.update(step=-1, checkpoint="")
  return config
