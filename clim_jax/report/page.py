"""The page of a run."""

from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict
from rich.console import Console

from clim_jax.data.source import BadImageError
from clim_jax.experiment import keys
from clim_jax.experiment.cautions import warn
from clim_jax.experiment.checkpoints import first_line
from clim_jax.experiment.configuration import Overrides
from clim_jax.experiment.error import ConfigError
from clim_jax.experiment.limits import check_report
from clim_jax.pretrain import learning
from clim_jax.report import curves, figures, plot
from clim_jax.report.pictures import Sources, gather
from clim_jax.report.render import config_rows, render, write
from clim_jax.report.run_files import RunFiles, read_run

_AS_IT_IS = Overrides(False, ())
PAGE = "report/index.html"  # in a workdir


def write_report(
  config: ConfigDict,
  workdir: epath.Path,
  overrides: Overrides = _AS_IT_IS,
  sources: Sources | None = None,
) -> epath.Path:
  """Writes the page of a run, also of one that goes on or was killed.

  What cannot be shown, for want of a checkpoint or of the images, is said there.

  Args:
    config: what is asked for; that of the run stands, save for its free sections.
    workdir: of the run.
    overrides: of the run's config.
    sources: its training and test images, where they are open already.

  Returns:
    Where the page is.

  Raises:
    ConfigError: there is no run, or a key of `report` is out of its range.
  """
  check_report(config)
  run = read_run(workdir)
  context: dict[str, Any] = {}
  if not (workdir / "checkpoints").is_dir():
    context["without"] = "there is no checkpoint yet"
  else:
    try:
      context = gather(config, run, overrides, sources)
    except (ConfigError, BadImageError) as error:
      context["without"] = keys.with_flags(str(error))
  marks = curves.refreshes(run)
  told = figures.warnings(run) or list(_findings(run).values())
  page = render(
    "run.html",
    run=run,
    answer=figures.answer(run),
    warnings=told,
    tables=figures.evaluation_tables(run),
    plots=[
      plot.draw(panel, epochs=run.epoch, marks=marks) for panel in curves.panels([run])
    ],
    marks=marks,
    of_selection=figures.selection_sentence(run),
    config=config_rows(run),
    **context,
  )
  return write(page, workdir / PAGE)


def try_report(
  config: ConfigDict, workdir: epath.Path, console: Console, sources: Sources | None
) -> None:
  """The page of a run, at whose end nothing may fail; by one process alone."""
  if jax.process_count() > 1:
    return
  try:
    with console.status("making the report"):
      write_report(config, workdir, sources=sources)
  except Exception as error:
    why = first_line(error)
    warn(console, [f"no report ({why}); the run is whole, and mode report tries again"])


def _findings(run: RunFiles) -> dict[str, str]:
  config = run.config
  return learning.symptoms(
    run.records,
    epochs=config["epochs"],
    batch_size=config["batch_size"],
    queue_size=config["moco.queue_size"],
    temperature=config["moco.temperature"],
  )
