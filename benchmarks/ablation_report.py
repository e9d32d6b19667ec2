"""docs/evidence.md and the README's table, made from results/ablation.jsonl."""

from collections.abc import Iterable, Iterator, Sequence

from benchmarks import ablation_grid, ablation_sets, ablation_statistics
from benchmarks import ablation_tables as tables
from benchmarks.ablation_statistics import Difference, Figure

_BASES = ("moco", "center_wise", "full", "knn", "random")
# What is asked first: an arm, the one it is held against, and how a sentence begins.
_QUESTIONS = (
  ("full", "moco", "The full method, CLIM at several sides, is above MoCo v2"),
  ("full", "sides", "it is above MoCo v2 at the same sides"),
  ("center_wise", "moco", "CLIM at one side is above MoCo v2"),
  ("center_wise", "moco_equal_time", "it is above MoCo v2 trained for its time"),
  ("center_wise", "knn", "The center rule is above kNN + CutMix"),
  ("full", "full_knn", "at several sides it is above it"),
  ("random", "moco", "Random positives, so the mixture alone, are above MoCo v2"),
  ("center_wise", "random", "CLIM's positives are above random ones"),
)
_SENTENCES = ((0, 1, 2, 3), (4, 5), (6, 7))
_HEAD = """# Evidence: does center-wise selection help, and why

{answer}
Figures are kNN and linear probes, of each data set, at its largest side; those counted
have an interval that excludes zero.

{short}
Made by `python benchmarks/ablation.py --report` from `results/ablation.jsonl`; do not
edit. Each cell is a run of its own: `--cells=DATA/ARM/*` runs an arm, `--list` names
what is missing. Top-1 in %, of the last epoch, mean ± deviation between seeds (in
brackets their number). All arms but one have equal epochs; seconds are the median of a
run, with other work beside it. Differences are paired by seed and hardware, with the
95% interval of Student's t: of training seeds alone, for all have the same test images
and the same draws of labels. Fewer than {least} pairs are not compared, and nothing is
corrected for the number of comparisons.
What the paper says and what was chosen here: [reproduction.md](reproduction.md).

![Each arm less MoCo v2 on the digits, with 95% intervals](evidence.svg)
"""


def evidence(rows: Iterable[dict]) -> str:
  """The page."""
  rows = list(rows)
  least = ablation_statistics.LEAST_SEEDS
  parts = [_HEAD.format(answer=answer(rows), short=_short(rows), least=least)]
  for data in ablation_sets.DATA_SETS:
    of_data = [row for row in rows if row["data"] == data.name]
    swept = [row for row in of_data if tables.swept(row)]
    arms = tables.by_arm(row for row in of_data if not tables.swept(row))
    if arms:
      parts.append(f"## {data.name}\n\n{data.about} {tables.where(of_data)}\n")
      for figures in tables.figures_by_side(arms):
        parts.append(tables.accuracies(arms, figures))
        parts += [
          tables.differences(arms, base, figures) for base in _BASES if base in arms
        ]
      parts.append(tables.mechanism(arms))
    if swept:
      parts.append(f"## Sweeps on {data.name}\n")
      parts += [
        tables.sweeps(rows, arms[arm])
        for arm, rows in tables.by_arm(swept).items()
        if arm in arms
      ]
  parts.append(_missing(rows))
  return "\n".join(part for part in parts if part).rstrip() + "\n"


def answer(rows: Sequence[dict]) -> str:
  """Three sentences: in how many figures an interval excludes zero."""
  clauses = [f"{said} {_tally(arm, base, rows)}" for arm, base, said in _QUESTIONS]
  return "\n".join(
    f"{'; '.join(clauses[clause] for clause in sentence)}." for sentence in _SENTENCES
  )


def _tally(arm: str, base: str, rows: Sequence[dict]) -> str:
  verdicts = [
    pair.verdict for _, pairs in _answers(arm, base, rows) for pair in pairs.values()
  ]
  if not verdicts:
    return "— too few seeds yet to say"
  told, below = verdicts.count("better"), verdicts.count("worse")
  return f"in {told} of {len(verdicts)} figures" + f", below in {below}" * bool(below)


def _answers(
  arm: str, base: str, rows: Sequence[dict]
) -> Iterator[tuple[str, dict[Figure, Difference]]]:
  """A data set that tests, and its differences at the largest side."""
  for data in ablation_sets.DATA_SETS:
    if not data.chooses:
      of_data = [
        row for row in rows if row["data"] == data.name and not tables.swept(row)
      ]
      arms = tables.by_arm(of_data)
      pairs = ablation_statistics.differences(arms.get(arm, []), arms.get(base, []))
      if pairs:
        largest = max(side for *_, side in pairs)
        yield data.name, {key: p for key, p in pairs.items() if key[-1] == largest}


def _short(rows: Sequence[dict]) -> str:
  """The same differences in points."""
  lines, head = [], []
  for arm, base, _ in _QUESTIONS:
    for name, pairs in _answers(arm, base, rows):
      head = [tables.title(figure) for figure in pairs]
      seeds = min(pair.seeds for pair in pairs.values())
      question = f"{tables.NAMES[arm]} less {tables.NAMES[base]}"
      lines.append([question, name, f"{seeds}", *map(tables.told, pairs.values())])
  return tables.table(["", "data", "seeds", *head], lines)


# A column of the README's table: an arm, and which encoder of its rows.
_README = {
  "MoCo v2": ("moco", "run"),
  "CLIM, one side": ("center_wise", "run"),
  "CLIM": ("full", "run"),
  "untrained": ("moco", "untrained"),
  "pixels": ("moco", "raw_pixels"),
}


def readme_table(rows: Iterable[dict]) -> str:
  """MoCo v2 and CLIM on the digits beside untrained features and pixels."""
  arms = tables.by_arm(
    row for row in rows if row["data"] == "digits" and not tables.swept(row)
  )
  found = {
    name: ablation_statistics.top1(arms[arm], encoder)
    for name, (arm, encoder) in _README.items()
  }
  above = digits_less_moco(rows)
  lines = []
  for figure in found["MoCo v2"]:
    if figure[1] == "2 a class":  # in docs/evidence.md
      continue
    cells = []
    for name, (arm, encoder) in _README.items():
      cell = tables.mean(found[name][figure].values(), seeds=False)
      surely = encoder == "run" and arm in above
      better = surely and above[arm][figure].verdict == "better"
      cells.append(f"**{cell}**" if better else cell)
    lines.append([tables.title(figure), *cells])
  seconds = [
    tables.seconds(arms[arm]) if encoder == "run" else ""
    for arm, encoder in _README.values()
  ]
  lines.append(["seconds, other work beside it", *seconds])
  return tables.table(["", *_README], lines).rstrip()


def digits_less_moco(rows: Iterable[dict]) -> dict[str, dict[Figure, Difference]]:
  """The differences of every arm on the digits that has enough seeds."""
  arms = tables.by_arm(
    row for row in rows if row["data"] == "digits" and not tables.swept(row)
  )
  found = {
    arm: ablation_statistics.differences(mine, arms["moco"])
    for arm, mine in arms.items()
  }
  return {arm: pairs for arm, pairs in found.items() if arm != "moco" and pairs}


def put_table(page: str, table: str) -> str:
  """A page whose table with the same first line is this one."""
  lines, head = page.splitlines(keepends=True), table.splitlines()[0] + "\n"
  start = stop = lines.index(head)
  while lines[stop].startswith("|"):
    stop += 1
  return "".join([*lines[:start], table + "\n", *lines[stop:]])


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
