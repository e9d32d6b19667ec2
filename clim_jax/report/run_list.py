"""All runs below a folder, as a table."""

import datetime
from collections.abc import Iterator

from etils import epath
from rich.console import Console
from rich.table import Table

from clim_jax.experiment.error import ConfigError
from clim_jax.report import figures
from clim_jax.report.run_files import RunFiles, read_run

_DEEPEST = 4  # folders below the one that is given


def print_runs(folder: epath.Path, console: Console) -> None:
  """A row a run: state, epochs, loss, the figures of its evaluation.

  Raises:
    ConfigError: there is no such folder, or no run in it.
  """
  if not folder.is_dir():
    raise ConfigError(f"there is no folder {folder}; say where runs are by --workdir")
  paths = sorted(_find(folder, _DEEPEST))
  if not paths:
    raise ConfigError(f"no run lies in {folder}: none of its folders has a config.json")
  table = Table(title=f"Runs in {folder}", caption="top-1 in %; loss: the newest")
  for name in ("run", "state"):
    table.add_column(name, overflow="fold")
  for name in ("epoch", "loss", "kNN", "linear", "1 a class", "changed"):
    table.add_column(name, justify="right", no_wrap=True)
  for path in paths:
    try:
      table.add_row(*_row(read_run(path), folder))
    except ConfigError:
      table.add_row(_name(path, folder), "damaged")
  console.print(table)


def _find(folder: epath.Path, depth: int) -> Iterator[epath.Path]:
  """Folders of runs; not looked for inside one another."""
  if (folder / "config.json").exists():
    yield folder
  elif depth:
    for path in folder.iterdir():
      if path.is_dir():
        yield from _find(path, depth - 1)


def _name(path: epath.Path, folder: epath.Path) -> str:
  return str(path).removeprefix(str(folder)).strip("/") or path.name


def _row(run: RunFiles, folder: epath.Path) -> list[str]:
  by_protocol = {}
  for (_, _, protocol, labels), result in figures.by_place(run).items():
    by_protocol.setdefault((protocol, labels), f"{100 * result.top1:.1f}")
  loss = run.records[-1].get("loss") if run.records else None
  linear = ("linear_cached", "all"), ("linear", "all")
  path = run.workdir / "metrics.jsonl"
  changed = ""
  if path.exists():
    then = datetime.datetime.fromtimestamp(path.stat().mtime)
    changed = then.strftime("%m-%d %H:%M")
  return [
    _name(run.workdir, folder),
    run.state,
    f"{run.epoch:.4g}/{run.config['epochs']}",
    "" if loss is None else f"{loss:.2f}",
    by_protocol.get(("knn", "all"), ""),
    next((by_protocol[key] for key in linear if key in by_protocol), ""),
    by_protocol.get(("few_label", "1 a class"), ""),
    changed,
  ]
