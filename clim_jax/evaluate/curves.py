"""Accuracy over the side of the images, drawn."""

import itertools

from etils import epath
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from clim_jax.evaluate.results import Result
from clim_jax.whole import written_whole


def draw_curves(results: list[Result], names: dict[str, str], path: epath.Path) -> bool:
  """Accuracy over the side, a panel a protocol; False if there is but one side."""
  if len({result.side for result in results}) < 2:
    return False
  panels = list(dict.fromkeys((r.dataset, r.protocol, r.labels) for r in results))
  figure = Figure(figsize=(4.2 * len(panels) + 1.4, 3.4), layout="constrained")
  axes = figure.subplots(1, len(panels), squeeze=False)[0]
  markers = dict(
    zip(dict.fromkeys(r.encoder for r in results), itertools.cycle("osD^v"))
  )
  for axis, panel in zip(axes, panels, strict=True):
    for encoder, marker in markers.items():
      rows = [
        r
        for r in results
        if (r.dataset, r.protocol, r.labels) == panel and r.encoder == encoder
      ]
      rows.sort(key=lambda r: r.side)
      axis.errorbar(
        [r.side for r in rows],
        [r.top1 for r in rows],
        None if rows[0].std is None else [r.std for r in rows],
        marker=marker,
        capsize=2,
        label=names.get(encoder, encoder),
      )
    axis.set_title(f"{panel[1]}, {panel[2]} labels, {panel[0]}", fontsize=10)
    axis.set_xlabel("side of the images [pixels]")
    axis.set_xticks(sorted({r.side for r in results}))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.grid(alpha=0.3)
  axes[0].set_ylabel("top-1 accuracy")
  figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
  with written_whole(path) as beside, beside.open("wb") as file:
    figure.savefig(file, format="png", dpi=120)
  return True
