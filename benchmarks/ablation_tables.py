"""Tables of an ablation's rows, in Markdown."""

import collections
import statistics
from collections.abc import Iterable, Sequence

from benchmarks import ablation_grid, ablation_statistics
from benchmarks.ablation_statistics import Difference, Figure
from clim_jax.experiment import configuration

NAMES = {
  "moco": "MoCo v2",
  "center_wise": "CLIM (center-wise)",
  "knn": "kNN + CutMix",
  "sides": "MoCo v2, several sides",
  "full": "CLIM, several sides",
  "knn_cluster": "kNN ∩ cluster",
  "cluster": "cluster",
  "cluster_closer": "cluster and closer",
  "random": "random positives",
  "same_label": "positives of the same label (uses labels)",
  "direct": "center-wise, no mixture",
  "mixup": "center-wise, Mixup",
  "mixed_only": "center-wise, mixed loss only",
  "full_mixed_only": "CLIM, several sides, mixed loss only",
  "full_knn": "kNN + CutMix, several sides",
  "nnclr": "nearest key in the queue (NNCLR)",
  "centred": "center-wise, features centred",
  "moco_equal_time": "MoCo v2 for the time of CLIM at one side",
  "lightly": "MoCo v2 by lightly",
}
_SWEPT = list(
  dict.fromkeys(ablation_grid.swept(cell.name) for cell in ablation_grid.cells())
)
_PROTOCOLS = {"knn": "kNN", "linear_cached": "linear", "few_label": "linear"}


def by_arm(rows: Iterable[dict]) -> dict[str, list[dict]]:
  found: dict[str, list[dict]] = {}
  for row in rows:
    found.setdefault(row["arm"], []).append(row)
  return {arm: found[arm] for arm in NAMES if arm in found}


def swept(row: dict) -> str:
  """What a row's cell changes, or nothing."""
  return ablation_grid.swept(row["cell"])


def title(figure: Figure) -> str:
  protocol, labels, _ = figure
  name, (count, *each) = _PROTOCOLS.get(protocol, protocol), labels.split(" ", 1)
  if protocol == "knn":
    return name
  noun = "label" if count == "1" else "labels"
  return " ".join([name, "with", count, noun, *each])


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
  rows = [head, ["---"] * len(head), *lines]
  return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def mean(values: Iterable[float], *, seeds: bool = True) -> str:
  mean = ablation_statistics.mean_of(values)
  text = f"{mean.mean:.1f}"
  if mean.deviation and mean.deviation > 1e-6:  # pixels are the same whatever the seed
    text += f" ± {mean.deviation:.1f}"
  return f"{text} ({mean.seeds})" if seeds else text


def figures_by_side(arms: dict[str, list[dict]]) -> list[list[Figure]]:
  figures = list(ablation_statistics.top1(next(iter(arms.values()))))
  sides = sorted({side for *_, side in figures})
  return [[figure for figure in figures if figure[-1] == side] for side in sides]


def accuracies(arms: dict[str, list[dict]], figures: Sequence[Figure]) -> str:
  lines = []
  for arm, rows in arms.items():
    found = ablation_statistics.top1(rows)
    cells = (mean(found[figure].values()) for figure in figures)
    lines.append([NAMES[arm], *cells, seconds(rows)])
  for encoder in ("untrained", "raw_pixels"):
    found = ablation_statistics.top1(next(iter(arms.values())), encoder)
    if found:
      cells = (mean(found[figure].values()) for figure in figures)
      lines.append([encoder.replace("_", " "), *cells, ""])
  return table([f"{figures[0][-1]} px", *map(title, figures), "seconds"], lines)


def seconds(rows: Iterable[dict]) -> str:
  """The median of a run's, from its start to the end of its evaluation.

  Of runs in one piece: a resumed one does not know what it took before.
  """
  whole = [row["seconds"] for row in rows if not row["resumed"]]
  return f"{statistics.median(whole):.0f}" if whole else ""


def told(pair: Difference) -> str:
  return f"{pair.mean:+.1f} [{pair.low:+.1f}, {pair.high:+.1f}]"


def differences(
  arms: dict[str, list[dict]], base: str, figures: Sequence[Figure]
) -> str:
  lines = []
  for arm, rows in arms.items():
    pairs = ablation_statistics.differences(rows, arms[base])
    if arm != base and pairs:
      lines.append([NAMES[arm], *(told(pairs[figure]) for figure in figures)])
  if not lines:
    return ""
  head = [f"less {NAMES[base]}", *map(title, figures)]
  return table(head, lines)


def where(rows: Sequence[dict]) -> str:
  """Which devices ran how many cells, and how long a run is."""
  cells = collections.Counter(row["hardware"] for row in rows)
  told = ", ".join(f"{count} on {where}" for where, count in cells.most_common())
  ((steps, _),) = collections.Counter(row["steps"] for row in rows).most_common(1)
  batch = configuration.load(rows[0]["config"]).batch_size
  return (
    f"Cells: {told}. Most runs have {steps:,} steps of {batch} images, "
    f"{steps * batch:,} in all."
  )


def mechanism(arms: dict[str, list[dict]]) -> str:
  """What was drawn: of the first and the last selection, mean over seeds."""
  keys = {
    "positives_precision": "share of the image's own label",
    "empty_share": "images without a positive",
    "mean_positives": "positives of an image",
  }
  lines = []
  for arm, rows in arms.items():
    with_selections = [row["selections"] for row in rows if row["selections"]]
    if with_selections:
      cells = []
      for key in keys:
        ends = [
          ablation_statistics.mean_of(one[end][key] for one in with_selections).mean
          for end in (0, -1)
        ]
        cells.append(" → ".join(f"{value:.3g}" for value in ends))
      lines.append([NAMES[arm], *cells])
  head = ["first selection → last", *keys.values()]
  return table(head, lines) if lines else ""


def sweeps(rows: Sequence[dict], default: Sequence[dict]) -> str:
  """What each value has above its arm with the default's, with the same seeds."""
  by_value: dict[str, list[dict]] = {}
  for row in rows:
    by_value.setdefault(swept(row), []).append(row)
  *_, figures = figures_by_side({"": default})  # of the largest side
  theirs = ablation_statistics.top1(default)
  lines = []
  for value in filter(by_value.get, _SWEPT):
    mine = ablation_statistics.top1(by_value[value])
    cells, pairs = [], 0
    for figure in figures:
      shared = mine[figure].keys() & theirs[figure].keys()
      pairs = len(shared)
      found = ablation_statistics.difference(mine[figure], theirs[figure])
      above = [mine[figure][pair] - theirs[figure][pair] for pair in shared]
      cells.append(told(found) if found else f"{sum(above) / max(pairs, 1):+.1f}")
    lines.append([f"`{value}`", f"{pairs}", *cells])
  head = [f"less {NAMES[default[0]['arm']]}", "seeds", *map(title, figures)]
  return table(head, lines)
