"""What an evaluation found: rows for JSON, a table for people, a curve over sides."""

import dataclasses
import json
from typing import Any

from rich.console import Console
from rich.table import Table

SCHEMA = 2  # docs/evaluation.md says what each version holds


@dataclasses.dataclass(frozen=True)
class Result:
  """One figure with all that is needed to read it; accuracies lie in [0, 1]."""

  dataset: str
  protocol: str
  labels: str  # which training labels were used: "all", "1%", "2 a class"
  side: int  # of the images shown, pixels
  encoder: str
  top1: float  # test accuracy at the chosen setting, mean over seeds
  std: float | None  # over seeds, n − 1; None for one seed
  top1_by_seed: list[float] | None
  chosen: dict[str, float]  # setting
  settings: list[dict[str, float]]  # all tried: validation_top1 (if judged) and top1
  stamp: dict[str, Any]  # the protocol


def to_json(results: list[Result], **about: Any) -> str:
  """The text of `evaluation.json`; `about` says what was evaluated."""
  rows = [dataclasses.asdict(result) for result in results]
  document = {"schema": SCHEMA, **about, "results": rows}
  return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def print_table(results: list[Result], title: str, console: Console) -> None:
  """A row a protocol, a column an encoder; what is the same in all rows goes on top."""
  encoders = list(dict.fromkeys(result.encoder for result in results))
  names = ("dataset", "side", "protocol", "labels")
  kept = [
    name
    for name in names
    if name == "protocol" or len({getattr(r, name) for r in results}) > 1
  ]
  same = [f"{name} {getattr(results[0], name)}" for name in names if name not in kept]
  table = Table(title=", ".join([title, *same]))
  for name in kept:
    table.add_column(name, no_wrap=True)
  for encoder in encoders:
    table.add_column(encoder.replace("_", " "), justify="right")
  rows: dict[tuple[str, ...], dict[str, str]] = {}
  for result in results:
    key = tuple(str(getattr(result, name)) for name in kept)
    rows.setdefault(key, {})[result.encoder] = _percent(result)
  for key, cells in rows.items():
    table.add_row(*key, *(cells.get(encoder, "") for encoder in encoders))
  console.print(table)


def _percent(result: Result) -> str:
  # Spaces that do not break: a narrow terminal may break the names on top.
  spread = "" if result.std is None else f"\N{NBSP}±\N{NBSP}{100 * result.std:.1f}"
  return f"{100 * result.top1:.1f}{spread}"
