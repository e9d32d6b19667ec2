"""What a check found, as numbers for a file and as a short table."""

import collections
import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from clim_jax.sets.findings import Findings, Seen

SCHEMA = 1


def to_json(found: Findings, told: Sequence[str] = ()) -> dict[str, Any]:
  """Counts by part, and all names of what is broken or there twice.

  Args:
    found: by looking through a set.
    told: of the set as a whole when it was opened.
  """
  parts = {
    part: _of_part([one for one in found.seen if one.part == part])
    for part in dict.fromkeys(one.part for one in found.seen)
  }
  names = [one.name for one in found.seen]
  return {
    "schema": SCHEMA,
    "told": list(told),
    "parts": parts,
    "broken": found.broken(),
    "called_otherwise": {
      one.name: one.sight.format for one in found.seen if _is_called_otherwise(one)
    },
    "copies": [
      {"names": [names[at] for at in group], "same_files": _same_files(found, group)}
      for group in found.copies
    ],
    "copies_of_two_classes": found.of_two_classes(),
    "in_both_parts": [list(pair) for pair in found.in_both_parts()],
    "near": [
      {"names": [names[one], names[other]], "cosine": round(cosine, 4)}
      for one, other, cosine in found.near
    ],
    "near_in_both_parts": [
      [names[one], names[other]]
      for one, other, _ in found.near
      if found.seen[one].part != found.seen[other].part
    ],
    "leave_out": len(found.to_leave_out()),
  }


def print_report(report: dict[str, Any], console: Console) -> None:
  """A column a part, and a line for what concerns both."""
  parts = report["parts"]
  table = Table(title="What there is")
  table.add_column("")
  for part in parts:
    table.add_column(part, justify="right", overflow="fold")
  rows = {
    "images": lambda part: f"{part['images']:,}",
    "classes": lambda part: _classes(part["classes"]) or "none",
    "without a label": lambda part: f"{part['unlabelled']:,}",
    "formats": lambda part: _counts(part["formats"]),
    "height, pixels": lambda part: _range(part["height"]),
    "width, pixels": lambda part: _range(part["width"]),
    "grey": lambda part: f"{part['grey']:,}",
    "CMYK": lambda part: f"{part['modes'].get('CMYK', 0):,}",
    "broken": lambda part: f"{part['broken']:,}",
  }
  for name, cell in rows.items():
    cells = [cell(part) for part in parts.values()]
    if set(cells) != {"0"} or name == "broken":
      table.add_row(name, *cells)
  console.print(table)
  copies = sum(len(group["names"]) - 1 for group in report["copies"])
  for count, what in (
    (copies, "exact copies of other images"),
    (len(report["copies_of_two_classes"]), "groups of copies with two labels"),
    (len(report["in_both_parts"]), "training images that are also test images"),
    (len(report["near"]), "pairs that look nearly the same"),
    (len(report["near_in_both_parts"]), "of these of training and test"),
    (len(report["called_otherwise"]), "files of another format than their names say"),
  ):
    if count:
      console.print(f"{what}: {count:,}", highlight=False)


def _of_part(seen: list[Seen]) -> dict[str, Any]:
  good = [one.sight for one in seen if not one.sight.fault]
  classes = collections.Counter(one.label for one in seen if one.label)
  return {
    "images": len(seen),
    "classes": dict(sorted(classes.items())),
    "unlabelled": sum(not one.label for one in seen),
    "formats": dict(collections.Counter(sight.format for sight in good)),
    "modes": dict(collections.Counter(sight.mode for sight in good)),
    "height": _spread([sight.height for sight in good]),
    "width": _spread([sight.width for sight in good]),
    "grey": sum(sight.is_grey for sight in good),
    "broken": len(seen) - len(good),
  }


def _spread(values: list[int]) -> dict[str, float]:
  if not values:
    return {}
  return {
    "least": min(values),
    "median": statistics.median(values),
    "most": max(values),
  }


def _same_files(found: Findings, group: list[int]) -> bool:
  return len({found.seen[at].sight.bytes_digest for at in group}) == 1


def _is_called_otherwise(one: Seen) -> bool:
  sight = one.sight
  return bool(sight.called and sight.format and sight.called != sight.format)


def _classes(classes: dict[str, int]) -> str:
  if not classes:
    return ""
  low, high = min(classes.values()), max(classes.values())
  sizes = f"{low:,}" if low == high else f"{low:,} to {high:,}"
  return f"{len(classes):,} of {sizes}"


def _counts(counts: dict[str, int]) -> str:
  ordered = sorted(counts.items(), key=lambda item: -item[1])
  return ", ".join(f"{count:,} {name}" for name, count in ordered)


def _range(spread: dict[str, float]) -> str:
  if not spread:
    return ""
  if spread["least"] == spread["most"]:
    return f"{spread['least']:,}"
  return f"{spread['least']:,} to {spread['most']:,}, median {spread['median']:,.0f}"
