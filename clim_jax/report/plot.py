"""Curves as numbers of an SVG drawing; colours and fonts are the page's style."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from clim_jax.report.curves import Panel, Points

WIDTH, HEIGHT = 360, 190  # of the drawing
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 10, 22  # margins
_MOST_POINTS = 300  # of a curve; more are joined into means
_TICKS = 4


class Tick(NamedTuple):
  place: float  # pixels along its axis
  text: str


class Line(NamedTuple):
  name: str
  path: str  # the attribute d of an SVG path
  last: str  # its last value
  dot: tuple[float, float] | None  # of a curve of one point


class Plot(NamedTuple):
  """All that a template needs to draw a panel."""

  title: str
  what: str
  box: tuple[int, int, int, int]  # left, top, right, bottom of the curves
  x_ticks: list[Tick]
  y_ticks: list[Tick]
  lines: list[Line]
  marks: list[float]  # places of vertical lines
  reference: Tick | None


def draw(panel: Panel, *, epochs: float, marks: Sequence[float] = ()) -> Plot:
  """A panel over 0 … `epochs`, with vertical marks at some epochs."""
  values = [value for line in panel.series for _, value in line.points]
  values += [panel.reference[1]] if panel.reference else []
  y_steps = ticks(min(values), max(values))
  low, high = min(y_steps[0], *values), max(y_steps[-1], *values)
  box = (_LEFT, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM)

  def x(epoch: float) -> float:
    return round(box[0] + (box[2] - box[0]) * epoch / (epochs or 1), 1)

  def y(value: float) -> float:
    return round(box[3] - (box[3] - box[1]) * (value - low) / (high - low), 1)

  lines = []
  for line in panel.series:
    places = [(x(epoch), y(value)) for epoch, value in thinned(line.points)]
    path = "M" + " ".join(f"{across},{down}" for across, down in places)
    dot = places[0] if len(places) == 1 else None
    last = format(line.points[-1][1], panel.form)
    lines.append(Line(line.name, path, last, dot))
  steps = [step for step in ticks(0, epochs) if step <= epochs]
  name, level = panel.reference or ("", low)
  return Plot(
    title=panel.title,
    what=panel.what,
    box=box,
    x_ticks=[Tick(x(step), f"{step:g}") for step in steps],
    y_ticks=[Tick(y(step), _text(step, panel.form)) for step in y_steps],
    lines=lines,
    marks=[x(mark) for mark in marks if mark <= epochs],
    reference=Tick(y(level), name) if panel.reference else None,
  )


def ticks(low: float, high: float) -> list[float]:
  """Round numbers from at most `low` to at least `high`, some four of them."""
  if high - low < 1e-9 * max(abs(low), abs(high), 1e-3):  # all the same
    low, high = low - abs(low) / 10 - 1e-3, high + abs(high) / 10 + 1e-3
  rough = (high - low) / _TICKS
  power = 10.0 ** math.floor(math.log10(rough))
  step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough * (1 - 1e-9))
  first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
  return [round(count * step, 12) for count in range(first, last + 1)]


def thinned(points: Points) -> Points:
  """Means of as many neighbouring points as it takes to have few; the last stays."""
  size = -(-len(points) // _MOST_POINTS)
  if size < 2:
    return points
  parts = [points[start : start + size] for start in range(0, len(points), size)]
  means = [
    tuple(sum(column) / len(part) for column in zip(*part, strict=True))
    for part in parts
  ]
  return [*means[:-1], points[-1]]


def _text(value: float, form: str) -> str:
  """A tick's value, as short as it can be."""
  if form.endswith("%"):
    return f"{100 * value:g}%"
  return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"
