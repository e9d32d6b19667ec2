"""Which curves are drawn of the records of runs."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from clim_jax.pretrain.records import Record
from clim_jax.report.run_files import RunFiles

Points = list[tuple[float, float]]  # (epoch, value)


class Series(NamedTuple):
  name: str
  points: Points


class Panel(NamedTuple):
  """One plot over the epochs."""

  title: str
  what: str  # how to read it
  form: str  # of a value, such as ".0%"
  series: list[Series]
  reference: tuple[str, float] | None  # a level line and its name


class _Kind(NamedTuple):
  title: str
  figures: dict[str, str]  # names in records, and before people; the first is compared
  form: str
  what: str


_KINDS = (
  _Kind(
    "Loss",
    {"loss": "loss", "plain_loss": "unmixed views alone"},
    ".2f",
    "The dashed line is log(queue + 1): a loss near it is chance. The loss may jump "
    "when mixing begins.",
  ),
  _Kind(
    "Contrast accuracy",
    {"contrast_accuracy": "contrast accuracy"},
    ".0%",
    "How often an image's own key is the nearest of all in the queue.",
  ),
  _Kind("Learning rate", {"learning_rate": "rate"}, ".3g", ""),
  _Kind(
    "Accuracy while training",
    {"online/linear_top1": "linear", "online/knn_top1": "kNN"},
    ".1%",
    "Online probes, of few images: not to be compared with an evaluation's.",
  ),
  _Kind(
    "Spread of the embeddings",
    {"embedding_spread": "spread"},
    ".2f",
    "1: they lie all around; 0: collapsed to a point.",
  ),
  _Kind(
    "RankMe",
    {"selection/rank_me": "RankMe"},
    ".1f",
    "In how many directions the features of the images lie, at each selection.",
  ),
  _Kind(
    "Similar images that share the label",
    {
      "selection/positives_precision": "kept",
      "selection/knn_precision": "all neighbours",
    },
    ".0%",
    "Labels are looked at here alone: no selection and no step uses them.",
  ),
  _Kind(
    "Similar images of an image",
    {"selection/mean_positives": "kept, on average"},
    ".1f",
    "",
  ),
  _Kind(
    "Images with none",
    {
      "selection/empty_share": "measured",
      "selection/expected_empty_share": "by chance alone",
    },
    ".1%",
    "They have the plain loss.",
  ),
  _Kind(
    "Turnover",
    {"selection/turnover": "new since the selection before"},
    ".0%",
    "Of the similar images drawn.",
  ),
  _Kind(
    "Images in a cluster",
    {
      "selection/cluster_median": "median",
      "selection/cluster_max": "largest",
      "selection/cluster_min": "smallest",
    },
    ".0f",
    "",
  ),
  _Kind("Seconds of a selection", {"selection/seconds": "seconds"}, ".1f", ""),
  _Kind(
    "Speed",
    {"images_per_second": "images a second"},
    ",.0f",
    "Without compiling, selections and probes.",
  ),
  _Kind(
    "Waiting for data",
    {"data_wait_fraction": "share of the time"},
    ".0%",
    "On a CPU input and step share the cores.",
  ),
)


def panels(runs: Sequence[RunFiles], names: Sequence[str] = ()) -> list[Panel]:
  """The plots that there are figures for: of one run, or of several with names."""
  found = []
  for kind in _KINDS:
    if len(runs) == 1:
      lines = [
        Series(name, _points(runs[0].records, figure))
        for figure, name in kind.figures.items()
      ]
    else:
      figure = next(iter(kind.figures))
      lines = [
        Series(name, _points(run.records, figure))
        for name, run in zip(names, runs, strict=True)
      ]
    lines = [line for line in lines if line.points]
    title = kind.title
    if len(runs) > 1 and len(kind.figures) > 1:
      first = next(iter(kind.figures.values()))
      title += "" if first == title.lower() else f": {first}"
    if lines:
      reference = _chance(runs) if kind.title == "Loss" else None
      found.append(Panel(title, kind.what, kind.form, lines, reference))
  return found


def refreshes(run: RunFiles) -> list[int]:
  """Epochs before which similar images were selected, as far as the run has come."""
  config = run.config
  if config["selection.rule"] == "none":
    return []
  first, every = config["selection.warmup_epochs"], config["selection.refresh_epochs"]
  return [epoch for epoch in range(first, config["epochs"], every) if epoch < run.epoch]


def _chance(runs: Sequence[RunFiles]) -> tuple[str, float] | None:
  """InfoNCE of an encoder that cannot tell a key from the queue's: log(1 + Q)."""
  sizes = {run.config["moco.queue_size"] for run in runs}
  if len(sizes) > 1:
    return None
  size = sizes.pop()
  return f"chance, log({size:,} + 1)", math.log(1 + size)


def _points(records: Sequence[Record], figure: str) -> Points:
  """A figure that stands in records until it is measured again counts once."""
  points: Points = []
  before = None  # the cost of a refresh tells it from the next
  for record in records:
    value, refresh = record.get(figure), record.get("selection/seconds")
    is_new = not figure.startswith("selection/") or refresh != before
    before = refresh
    if is_new and isinstance(value, int | float) and math.isfinite(value):
      points.append((record["epoch"], float(value)))
  return points
