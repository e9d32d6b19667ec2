"""Several runs on one page: figures side by side, curves overlaid, what differs."""

import os
from collections.abc import Sequence
from typing import Any

from etils import epath

from clim_jax.evaluate import results
from clim_jax.experiment.error import ConfigError
from clim_jax.report import curves, figures, plot
from clim_jax.report.figures import Table
from clim_jax.report.render import render, write
from clim_jax.report.run_files import RunFiles, read_run


def write_comparison(workdirs: Sequence[epath.Path], output: epath.Path) -> epath.Path:
  """Writes the page; differences are from the first run.

  Raises:
    ConfigError: fewer than two runs, or a folder that holds none.
  """
  if len(workdirs) < 2:
    raise ConfigError("compare needs two runs or more: --runs=FIRST,SECOND")
  runs = [read_run(workdir) for workdir in workdirs]
  names = _names(workdirs)
  longest = max(run.epoch for run in runs)
  page = render(
    "compare.html",
    runs=list(zip(names, runs, strict=True)),
    tables=[figure_table(runs, names)],
    plots=[plot.draw(panel, epochs=longest) for panel in curves.panels(runs, names)],
    differences=differences(runs),
  )
  return write(page, output)


def _names(workdirs: Sequence[epath.Path]) -> list[str]:
  """The last parts of the paths; as many as tell them apart."""
  parts = [os.path.abspath(workdir).split("/") for workdir in workdirs]
  for count in range(1, max(map(len, parts))):
    names = ["/".join(own[-count:]) for own in parts]
    if len(set(names)) == len(names):
      return names
  raise ConfigError(f"a run is named twice: {', '.join(map(str, workdirs))}")


def figure_table(runs: Sequence[RunFiles], names: Sequence[str]) -> Table | None:
  """Each run's own figures; those after the first with how far they are from it."""
  found = [figures.by_place(run) for run in runs]
  places = list(dict.fromkeys(place for own in found for place in own))
  if not places:
    return None
  many_sides = len({place[1] for place in places}) > 1
  many_sets = len({place[0] for place in places}) > 1
  rows = []
  for place in places:
    own = [by_place.get(place) for by_place in found]
    cells = [results.percent(result) if result else "" for result in own]
    for number, result in enumerate(own[1:], 1):
      if result and own[0]:
        cells[number] += f" ({100 * (result.top1 - own[0].top1):+.1f})"
    values = [result.top1 if result else -1.0 for result in own]
    name = figures.row_name(place, many_sides)
    name = f"{place[0]}: {name}" if many_sets else name
    rows.append((name, cells, values.index(max(values))))
  shown = [result for own in found for result in own.values()]
  title = "side by side" if many_sets else places[0][0]
  return Table(title, list(names), rows, results.caption(shown), [])


def differences(runs: Sequence[RunFiles]) -> list[tuple[str, list[Any]]]:
  """Keys that are not the same in all runs, with the value in each."""
  keys = dict.fromkeys(key for run in runs for key in run.config)
  rows = [(key, [run.config.get(key, "(none)") for run in runs]) for key in keys]
  return [row for row in rows if any(value != row[1][0] for value in row[1])]
