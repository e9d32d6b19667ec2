"""Means, deviations and paired differences of an ablation's rows."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

Figure = tuple[str, str, int]  # protocol, labels, side
LEAST_SEEDS = 3  # of a difference that is told


class Mean(NamedTuple):
  mean: float  # of the last epoch's top-1, in %
  deviation: float | None  # between seeds, n − 1 in the divisor; None of one seed
  seeds: int


class Difference(NamedTuple):
  """One arm less another with the same seeds, in points of top-1."""

  mean: float
  low: float  # the 95% interval of Student's t
  high: float
  seeds: int

  @property
  def verdict(self) -> str:
    if self.low > 0:
      return "better"
    return "worse" if self.high < 0 else "undecided"


def top1(rows: Iterable[dict], encoder: str = "run") -> dict[Figure, dict[int, float]]:
  """Of each figure, in % by seed."""
  found: dict[Figure, dict[int, float]] = {}
  for row in rows:
    for result in row["evaluation"]:
      if result["encoder"] == encoder:
        figure = (result["protocol"], result["labels"], result["side"])
        found.setdefault(figure, {})[row["seed"]] = 100 * result["top1"]
  return found


def mean_of(values: Iterable[float]) -> Mean:
  array = np.array(list(values), float)
  deviation = float(array.std(ddof=1)) if len(array) > 1 else None
  return Mean(float(array.mean()), deviation, len(array))


def difference(arm: dict[int, float], base: dict[int, float]) -> Difference | None:
  """Of seeds that both have; None if they are fewer than `LEAST_SEEDS`."""
  seeds = sorted(arm.keys() & base.keys())
  if len(seeds) < LEAST_SEEDS:
    return None
  pairs = np.array([arm[seed] - base[seed] for seed in seeds])
  error = pairs.std(ddof=1) / np.sqrt(len(pairs))
  half = float(stats.t.ppf(0.975, len(pairs) - 1) * error)
  mean = float(pairs.mean())
  return Difference(mean, mean - half, mean + half, len(pairs))


def differences(arm: Sequence[dict], base: Sequence[dict]) -> dict[Figure, Difference]:
  """Of every figure that enough seeds of both have."""
  mine, theirs = top1(arm), top1(base)
  found = {
    figure: difference(mine[figure], theirs[figure])
    for figure in mine
    if figure in theirs
  }
  return {figure: pair for figure, pair in found.items() if pair}
