"""docs/evidence.md and the README's table, made from results/ablation.jsonl."""

from collections.abc import Iterable, Sequence

from benchmarks import ablation_grid, ablation_statistics
from benchmarks.ablation_statistics import Figure

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
  "nnclr": "nearest key in the queue (NNCLR)",
  "centred": "center-wise, features centred",
  "moco_equal_time": "MoCo v2 for CLIM's time",
}
_PROTOCOLS = {"knn": "kNN", "linear_cached": "linear", "few_label": "linear"}
_BASES = ("moco", "center_wise", "knn", "random")
_HEAD = """# Evidence: does center-wise selection help, and why

{answer}

Made by `python benchmarks/ablation.py --report` from `results/ablation.jsonl`; do not
edit. Each cell is a run of its own: `--list` names those that are missing. Top-1 in %,
of the last epoch, mean ± deviation between seeds (in brackets their number).
Differences are paired by seed, with the 95% interval of Student's t; fewer than
{least} pairs are not compared, and nothing is corrected for the number of comparisons.
What the paper says and what was chosen here: [reproduction.md](reproduction.md).

![Each arm less MoCo v2 on the digits, with 95% intervals](evidence.svg)
"""


def evidence(rows: Iterable[dict]) -> str:
  """The page."""
  rows = list(rows)
  parts = [_HEAD.format(answer=answer(rows), least=ablation_statistics.LEAST_SEEDS)]
  for data in ablation_grid.DATA_SETS:
    of_data = [row for row in rows if row["data"] == data.name]
    swept = [row for row in of_data if _swept(row)]
    arms = _by_arm(row for row in of_data if not _swept(row))
    if arms:
      parts.append(f"## {data.name}\n")
      for figures in _figures_by_side(arms):
        parts.append(_accuracies(arms, figures))
        parts += [_differences(arms, base, figures) for base in _BASES if base in arms]
      parts.append(_mechanism(arms))
    if swept:
      parts += [f"## Sweeps on {data.name}\n", _sweeps(swept, arms["center_wise"])]
  parts.append(_missing(rows))
  return "\n".join(part for part in parts if part).rstrip() + "\n"


def answer(rows: Sequence[dict]) -> str:
  """A sentence a question, of what the intervals say."""
  found = []
  for arm, base, what in (
    ("center_wise", "moco", "CLIM against MoCo v2"),
    ("center_wise", "knn", "the center rule against kNN + CutMix"),
    ("full", "moco", "the full method, with several sides, against MoCo v2"),
    ("random", "moco", "the mixture alone, random positives against MoCo v2"),
    ("center_wise", "random", "the choice of positives, CLIM against random ones"),
  ):
    of_data = []
    for data in ablation_grid.DATA_SETS:
      arms = _by_arm(
        row for row in rows if row["data"] == data.name and not _swept(row)
      )
      pairs = _pairs(arms.get(arm, []), arms.get(base, []))
      if pairs:
        of_data.append(f"on {data.name} {_verdict(pairs)}")
    found.append(f"{what}: {'; '.join(of_data) or 'too few seeds yet to say'}.")
  return "\n".join(f"- {line[0].upper()}{line[1:]}" for line in found)


def readme_table(rows: Iterable[dict]) -> str:
  """MoCo v2 and CLIM on the digits beside untrained features and pixels."""
  arms = _by_arm(row for row in rows if row["data"] == "digits" and not _swept(row))
  pairs = _pairs(arms["center_wise"], arms["moco"])
  shown = (
    *(("moco", "run"), ("center_wise", "run")),
    *(("moco", "untrained"), ("moco", "raw_pixels")),
  )
  columns = [ablation_statistics.top1(arms[arm], encoder) for arm, encoder in shown]
  lines = ["| | MoCo v2 | CLIM | untrained | pixels |", "|---|---|---|---|---|"]
  for figure in columns[0]:
    if figure[1] == "2 a class":  # in docs/evidence.md
      continue
    cells = [_mean(column[figure].values(), seeds=False) for column in columns]
    if figure in pairs and pairs[figure].verdict == "better":
      cells[1] = f"**{cells[1]}**"
    lines.append(f"| {_title(figure)} | {' | '.join(cells)} |")
  return "\n".join(lines)


def digits_less_moco(
  rows: Iterable[dict],
) -> dict[str, dict[Figure, ablation_statistics.Difference]]:
  """The differences of every arm on the digits that has enough seeds."""
  arms = _by_arm(row for row in rows if row["data"] == "digits" and not _swept(row))
  found = {arm: _pairs(mine, arms["moco"]) for arm, mine in arms.items()}
  return {arm: pairs for arm, pairs in found.items() if arm != "moco" and pairs}


def put_table(page: str, table: str) -> str:
  """A page whose table with the same first line is this one."""
  lines, head = page.splitlines(keepends=True), table.splitlines()[0] + "\n"
  start = stop = lines.index(head)
  while lines[stop].startswith("|"):
    stop += 1
  return "".join([*lines[:start], table + "\n", *lines[stop:]])


def _by_arm(rows: Iterable[dict]) -> dict[str, list[dict]]:
  found: dict[str, list[dict]] = {}
  for row in rows:
    found.setdefault(row["arm"], []).append(row)
  return {arm: found[arm] for arm in NAMES if arm in found}


def _swept(row: dict) -> str:
  """What a row's cell changes, or nothing: digits/ARM/KEY=VALUE/seed=S."""
  return "/".join(row["cell"].split("/")[2:-1])


def _pairs(
  arm: Sequence[dict], base: Sequence[dict]
) -> dict[Figure, ablation_statistics.Difference]:
  mine, theirs = ablation_statistics.top1(arm), ablation_statistics.top1(base)
  found = {
    figure: ablation_statistics.difference(mine[figure], theirs[figure])
    for figure in mine
    if figure in theirs
  }
  return {figure: pair for figure, pair in found.items() if pair}


def _verdict(pairs: dict[Figure, ablation_statistics.Difference]) -> str:
  by_verdict: dict[str, list[str]] = {}
  for figure, pair in pairs.items():
    by_verdict.setdefault(pair.verdict, []).append(_title(figure))
  said = [
    f"{verdict} in {', '.join(by_verdict[verdict])}"
    for verdict in ("better", "undecided", "worse")
    if verdict in by_verdict
  ]
  seeds = min(pair.seeds for pair in pairs.values())
  return f"{', '.join(said)} ({seeds} seeds)"


def _title(figure: Figure) -> str:
  protocol, labels, _ = figure
  name, (count, *each) = _PROTOCOLS.get(protocol, protocol), labels.split(" ", 1)
  if protocol == "knn":
    return name
  noun = "label" if count == "1" else "labels"
  return " ".join([name, "with", count, noun, *each])


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
  rows = [head, ["---"] * len(head), *lines]
  return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _mean(values: Iterable[float], *, seeds: bool = True) -> str:
  mean = ablation_statistics.mean_of(values)
  text = f"{mean.mean:.1f}"
  if mean.deviation and mean.deviation > 1e-6:  # pixels are the same whatever the seed
    text += f" ± {mean.deviation:.1f}"
  return f"{text} ({mean.seeds})" if seeds else text


def _figures_by_side(arms: dict[str, list[dict]]) -> list[list[Figure]]:
  figures = list(ablation_statistics.top1(next(iter(arms.values()))))
  sides = sorted({side for *_, side in figures})
  return [[figure for figure in figures if figure[-1] == side] for side in sides]


def _accuracies(arms: dict[str, list[dict]], figures: Sequence[Figure]) -> str:
  lines = []
  for arm, rows in arms.items():
    found = ablation_statistics.top1(rows)
    lines.append([NAMES[arm], *(_mean(found[figure].values()) for figure in figures)])
  for encoder in ("untrained", "raw_pixels"):
    found = ablation_statistics.top1(next(iter(arms.values())), encoder)
    if found:
      cells = (_mean(found[figure].values()) for figure in figures)
      lines.append([encoder.replace("_", " "), *cells])
  return _table([f"{figures[0][-1]} px", *map(_title, figures)], lines)


def _differences(
  arms: dict[str, list[dict]], base: str, figures: Sequence[Figure]
) -> str:
  lines = []
  for arm, rows in arms.items():
    pairs = _pairs(rows, arms[base])
    if arm != base and pairs:
      of_side = [pairs[figure] for figure in figures]
      told = [f"{p.mean:+.1f} [{p.low:+.1f}, {p.high:+.1f}]" for p in of_side]
      lines.append([NAMES[arm], *told])
  if not lines:
    return ""
  head = [f"less {NAMES[base]}", *map(_title, figures)]
  return _table(head, lines)


def _mechanism(arms: dict[str, list[dict]]) -> str:
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
  return _table(head, lines) if lines else ""


def _sweeps(rows: Sequence[dict], default: Sequence[dict]) -> str:
  """Each value less the default's own run of the same seeds."""
  by_value: dict[str, list[dict]] = {}
  for row in rows:
    by_value.setdefault(_swept(row), []).append(row)
  figures = list(ablation_statistics.top1(default))
  lines = []
  for value, some in by_value.items():
    pairs = _pairs(some, default)
    if pairs:
      told = [f"{p.mean:+.1f} [{p.low:+.1f}, {p.high:+.1f}]" for p in pairs.values()]
      lines.append([f"`{value}`", *told])
  return _table(["less the default", *map(_title, figures)], lines) if lines else ""


def _missing(rows: Iterable[dict]) -> str:
  done = {row["cell"] for row in rows}
  left: dict[str, int] = {}
  for cell in ablation_grid.cells():
    if cell.name not in done:
      left[cell.data.name] = left.get(cell.data.name, 0) + 1
  total = sum(1 for _ in ablation_grid.cells())
  if not left:
    return ""
  told = ", ".join(f"{count} of {name}" for name, count in left.items())
  done_of = f"{total - sum(left.values())} of {total} cells are done"
  return f"## Not run yet\n\n{done_of}: {told} are missing.\n"
