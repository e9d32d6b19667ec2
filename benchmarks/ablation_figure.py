"""docs/evidence.svg: each arm less MoCo v2 on the digits, with its interval."""

import pathlib
import re
from collections.abc import Iterable

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import ablation_report, ablation_tables
from benchmarks.ablation_statistics import Difference

_SHOWN = {
  ("few_label", "1 a class", 16): "1 label a class",
  ("few_label", "10 a class", 16): "10 labels a class",
}
_STYLE = {"svg.fonttype": "none", "svg.hashsalt": "clim_jax", "font.size": 9}


def draw(rows: Iterable[dict], path: pathlib.Path) -> None:
  """An SVG, its texts as text."""
  arms = ablation_report.digits_less_moco(rows)
  with matplotlib.rc_context(_STYLE):
    figure = Figure(figsize=(9, 1.1 + 0.3 * len(arms)), layout="constrained")
    for axes, key in zip(figure.subplots(1, 2, sharey=True), _SHOWN, strict=True):
      _panel(axes, {arm: pairs[key] for arm, pairs in arms.items()})
      axes.set_title(_SHOWN[key])
      axes.set_xlabel("points of top-1 above MoCo v2")
    figure.savefig(path, metadata={"Date": None})


def _panel(axes: Axes, pairs: dict[str, Difference]) -> None:
  axes.axvline(0, color="0.6", linewidth=1)
  for height, pair in enumerate(pairs.values()):
    colour = {"better": "C0", "worse": "C3"}.get(pair.verdict, "0.4")
    axes.plot([pair.low, pair.high], [height, height], color=colour, linewidth=2)
    axes.plot(pair.mean, height, "o", color=colour, markersize=5)
    axes.annotate(
      label(pair), (pair.mean, height), (0, 5), textcoords="offset points", ha="center"
    )
  axes.set_yticks(range(len(pairs)), [ablation_tables.NAMES[arm] for arm in pairs])
  axes.set_ylim(len(pairs) - 0.4, -0.7)  # the first arm on top
  axes.spines[["top", "right", "left"]].set_visible(False)
  axes.tick_params(left=False)


def label(pair: Difference) -> str:
  return f"{pair.mean:+.1f} [{pair.low:+.1f}, {pair.high:+.1f}] ({pair.seeds})"


def labels(rows: Iterable[dict]) -> list[str]:
  """Of all intervals that are drawn, panel by panel."""
  arms = ablation_report.digits_less_moco(rows)
  return [label(pairs[key]) for key in _SHOWN for pairs in arms.values()]


def labels_in(svg: str) -> list[str]:
  return re.findall(r">([+−-][\d.]+ \[[^<]*)</text>", svg)
