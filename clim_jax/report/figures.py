"""The figures of evaluations as tables and sentences."""

from typing import Any, NamedTuple

from clim_jax.evaluate import results
from clim_jax.evaluate.results import Result
from clim_jax.report.run_files import FINISHED, RUNNING, RunFiles
from clim_jax.selection.positives import RULES

_BASELINES = ("untrained", "raw_pixels")


class Table(NamedTuple):
  """A row a protocol, a column an encoder."""

  title: str
  columns: list[str]
  rows: list[tuple[str, list[str], int]]  # its name, cells in %, and which is best
  caption: str
  stamps: list[tuple[str, dict[str, Any]]]  # of each row: all that makes its figure


def evaluation_tables(run: RunFiles) -> list[Table]:
  """One a file and data set."""
  tables = []
  for stem, document in run.evaluations.items():
    found = _parse(document)
    judged = next(iter(document.get("encoders", {})), run.name)
    names = results.encoder_names(judged, is_run=True)
    for dataset in dict.fromkeys(result.dataset for result in found):
      own = [result for result in found if result.dataset == dataset]
      tables.append(_table(f"{dataset}, {stem}.json", own, names))
  return tables


def _parse(document: dict[str, Any]) -> list[Result]:
  """Its figures; of other versions those that can be read."""
  found = []
  for row in document["results"]:
    known = {name: row.get(name) for name in Result.__dataclass_fields__}
    if isinstance(known["top1"], int | float) and isinstance(known["stamp"], dict):
      found.append(Result(**known))
  return found


def _table(title: str, found: list[Result], names: dict[str, str]) -> Table:
  encoders = list(dict.fromkeys(result.encoder for result in found))
  by_row: dict[tuple[str, ...], dict[str, Result]] = {}
  for result in found:
    by_row.setdefault(results.place_of(result), {})[result.encoder] = result
  many_sides = len({place[1] for place in by_row}) > 1
  rows, stamps = [], []
  for place, cells in by_row.items():
    name = row_name(place, many_sides)
    values = [cells[e].top1 if e in cells else -1.0 for e in encoders]
    texts = [results.percent(cells[e]) if e in cells else "" for e in encoders]
    rows.append((name, texts, values.index(max(values))))
    first = next(iter(cells.values()))
    stamps.append((name, {"chosen": first.chosen} | first.stamp))
  columns = [names.get(encoder, encoder) for encoder in encoders]
  return Table(title, columns, rows, results.caption(found), stamps)


def row_name(place: tuple[str, ...], with_side: bool) -> str:
  """Of a dataset, side, protocol and labels, before people."""
  _, side, protocol, labels = place
  name = f"{results.PROTOCOLS.get(protocol, protocol)}, {labels} labels"
  if labels.endswith("a class"):
    name = f"{results.PROTOCOLS.get(protocol, protocol)}, {labels}"
  return f"{name}, side {side}" if with_side else name


def by_place(run: RunFiles) -> dict[tuple[str, ...], Result]:
  """The run's own figures, of all its evaluations."""
  found = {}
  for document in run.evaluations.values():
    judged = next(iter(document.get("encoders", {})), run.name)
    for result in _parse(document):
      if result.encoder == judged:
        found.setdefault(results.place_of(result), result)
  return found


def answer(run: RunFiles) -> list[str]:
  """What there is to say of a run first, a sentence each."""
  epochs = run.config["epochs"]
  done = f"{run.epoch:.4g} of {epochs} epochs, {run.step:,} steps"
  said = {
    FINISHED: f"The run is finished: {done}.",
    RUNNING: f"The run is going on: {done}. Make this page again to see more.",
  }.get(run.state, f"The run has stopped at {done}. The same command goes on.")
  return [said, _judgement(run)]


def _judgement(run: RunFiles) -> str:
  if not run.evaluations:
    return "It has not been evaluated: that needs labels, test images and its end."
  document = next(iter(run.evaluations.values()))
  found = _parse(document)
  if not found:
    return "Its evaluation cannot be read."
  first = found[0]
  place = results.place_of(first)
  same = {r.encoder: r for r in found if results.place_of(r) == place}
  names = results.encoder_names(first.encoder, is_run=True)
  others = [
    f"{results.percent(same[name])}% by the {names[name]}"
    for name in _BASELINES
    if name in same
  ]
  beside = f"; {' and '.join(others)}" if others else ""
  return (
    f"{results.percent(first)}% of the test images are told right by its features "
    f"({row_name(place, with_side=False)}){beside}. Guessing: {_chance(first)}."
  )


def _chance(result: Result) -> str:
  classes = result.stamp.get("classes")
  return f"{100 / classes:.3g}%" if classes else "unknown"


def selection_sentence(run: RunFiles) -> str:
  """What the newest selection came to, by its figures; "" before the first."""
  last = run.records[-1] if run.records else {}
  kept = last.get("selection/mean_positives")
  if kept is None:
    return ""
  parts = [f"{kept:.1f} similar images are kept for an image on average"]
  if "a" in RULES[run.config["selection.rule"]]:
    neighbours = run.config["selection.num_neighbours"]
    parts[0] += f", of {neighbours} neighbours: {kept / neighbours:.0%}"
  parts.append(f"{last['selection/empty_share']:.1%} of the images have none")
  precision = last.get("selection/positives_precision")
  if precision is not None:
    own = f"{precision:.1%} of what is kept shares the label"
    every = last.get("selection/knn_precision")
    parts.append(own if every is None else f"{own}, {every:.1%} of all neighbours")
  turnover = last.get("selection/turnover")
  if turnover is not None:
    parts.append(f"{turnover:.0%} of it is new since the selection before")
  return "; ".join(parts) + "."


def warnings(run: RunFiles) -> list[str]:
  """What evaluations warn of, each once."""
  told = [w for d in run.evaluations.values() for w in d.get("warnings", [])]
  return list(dict.fromkeys(told))
