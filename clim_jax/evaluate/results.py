"""What an evaluation found: rows for JSON, a table for people, a curve over sides."""

import dataclasses
import json
from typing import Any

from rich.console import Console
from rich.table import Table

from clim_jax.probes.subjects import REFERENCES

# Before people; a row's labels tell the two linear probes on stored features apart.
PROTOCOLS = {
  "knn": "kNN",
  "linear_cached": "linear probe",
  "few_label": "linear probe",
  "linear": "linear probe, SGD",
  "finetune": "fine-tuning",
}
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


def encoder_names(judged: str, *, is_run: bool) -> dict[str, str]:
  """How encoders are called before people; others have their own names.

  Args:
    judged: name of the encoder that the evaluation is about.
    is_run: whether it is a run's, and not of weights from elsewhere.
  """
  names = {"untrained": "network before training", "raw_pixels": "pixels themselves"}
  return names | ({judged: "this run"} if is_run else {})


def no_better(results: list[Result], judged: str, names: dict[str, str]) -> list[str]:
  """A warning for each reference that the judged encoder is not above, on average."""
  top1 = {(place_of(r), r.encoder): r.top1 for r in results}
  found = []
  for reference in REFERENCES:
    places = [place for place, encoder in top1 if encoder == reference]
    own, other = (
      100 * sum(top1[place, encoder] for place in places) / max(len(places), 1)
      for encoder in (judged, reference)
    )
    if places and own <= other:
      found.append(
        f"{names.get(judged, judged)} is no better than the {names[reference]}: mean "
        f"{own:.1f} against {other:.1f}; use more images or epochs"
      )
  return found


def place_of(result: Result) -> tuple[str, ...]:
  """Row of the table: dataset, side, protocol, labels."""
  return (result.dataset, str(result.side), result.protocol, result.labels)


def print_table(
  results: list[Result], title: str, names: dict[str, str], console: Console
) -> None:
  """A row a protocol, a column an encoder; what is the same in all rows goes on top."""
  encoders = list(dict.fromkeys(result.encoder for result in results))
  columns = ("dataset", "side", "protocol", "labels")
  kept = [
    place
    for place, column in enumerate(columns)
    if column == "protocol" or len({place_of(result)[place] for result in results}) > 1
  ]
  same = [
    f"{column} {place_of(results[0])[place]}"
    for place, column in enumerate(columns)
    if place not in kept
  ]
  table = Table(title=", ".join([title, *same]), caption=caption(results))
  for place in kept:
    table.add_column(columns[place], overflow="fold")
  for encoder in encoders:
    table.add_column(names.get(encoder, encoder), justify="right", overflow="fold")
  rows: dict[tuple[str, ...], dict[str, str]] = {}
  for result in results:
    rows.setdefault(place_of(result), {})[result.encoder] = percent(result)
  for place, cells in rows.items():
    words = (*place[:2], PROTOCOLS.get(place[2], place[2]), place[3])
    row = [words[column] for column in kept]
    table.add_row(*row, *(cells.get(encoder, "") for encoder in encoders))
  console.print(table)


def caption(results: list[Result]) -> str:
  """What ± is and what guessing reaches."""
  draws = {len(result.top1_by_seed) for result in results if result.top1_by_seed}
  spread = " or ".join(map(str, sorted(draws - {1})))
  classes = {r.dataset: r.stamp["classes"] for r in results if "classes" in r.stamp}
  chance = {f"{100 / count:.3g}" for count in classes.values()}
  parts = [f"± over {spread} draws of the labels"] if spread else []
  if len(chance) == 1:
    parts.append(f"chance is {chance.pop()}")
  else:
    parts += [f"chance is {100 / n:.3g} on {name}" for name, n in classes.items()]
  return "; ".join(parts)


def percent(result: Result) -> str:
  """Such as `69.3 ± 10.0`."""
  # Spaces that do not break: a narrow terminal may break the names on top.
  spread = "" if result.std is None else f"\N{NBSP}±\N{NBSP}{100 * result.std:.1f}"
  return f"{100 * result.top1:.1f}{spread}"
