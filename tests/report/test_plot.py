"""Curves as numbers of a drawing."""

import re

import numpy as np
import pytest

from clim_jax.report.curves import Panel, Series
from clim_jax.report.plot import draw, thinned, ticks


@pytest.mark.parametrize(
  ("low", "high"),
  [(0, 1), (0.031, 0.92), (-3, 7.2), (4.4, 6.9), (0, 87_000), (1e-5, 2e-5)],
)
def test_ticks_are_few_round_numbers_around_the_values(low, high):
  found = ticks(low, high)
  assert found[0] <= low
  assert found[-1] >= high
  assert 2 <= len(found) <= 8
  steps = np.diff(found)
  np.testing.assert_allclose(steps, steps[0])
  mantissa = steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9)
  assert round(float(mantissa), 6) in (1, 2, 2.5, 5)


@pytest.mark.parametrize("value", [0.0, 3.0, -1e-12, 1e9])
def test_equal_values_have_ticks_around_them(value):
  found = ticks(value, value)
  assert found[0] < value < found[-1]


def test_values_lie_where_the_axes_say():
  panel = Panel("t", "", ".2f", [Series("a", [(0, 0.0), (5, 1.0), (10, 0.5)])], None)
  plot = draw(panel, epochs=10, marks=[5])
  numbers = np.array(re.findall(r"[\d.]+", plot.lines[0].path), float).reshape(-1, 2)
  left, top, right, bottom = plot.box
  expected = [(left, bottom), ((left + right) / 2, top), (right, (top + bottom) / 2)]
  np.testing.assert_allclose(numbers, expected, atol=0.1)
  assert plot.marks == [pytest.approx((left + right) / 2)]
  assert plot.lines[0].last == "0.50"


def test_a_reference_line_is_inside():
  panel = Panel("t", "", ".2f", [Series("a", [(1, 4.0)])], ("chance", 6.93))
  plot = draw(panel, epochs=2)
  assert plot.box[1] <= plot.reference.place < plot.lines[0].dot[1]


def test_many_points_become_means_and_the_last_stays():
  points = [(float(i), float(i % 2)) for i in range(3001)]
  few = thinned(points)
  assert len(few) <= 301
  assert few[-1] == points[-1]
  assert all(0.3 < value < 0.7 for _, value in few[:-1])
