"""Means, deviations and paired differences of an ablation's rows."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

Figure = tuple[str, str, int]  # protocol, labels, side
Pair = tuple[int, str]  # seed and hardware: runs of the same two are compared
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
    if self.high - self.low < 1e-6:  # all pairs differ by the same few images
      return "undecided"
    if self.low > 0:
      return "better"
    return "worse" if self.high < 0 else "undecided"


def top1(rows: Iterable[dict], encoder: str = "run") -> dict[Figure, dict[Pair, float]]:
  """Of each figure, in % by seed and hardware."""
  found: dict[Figure, dict[Pair, float]] = {}
  for row in rows:
    for result in row["evaluation"]:
      if result["encoder"] == encoder:
        figure = (result["protocol"], result["labels"], result["side"])
        found.setdefault(figure, {})[row["seed"], row["hardware"]] = (
          100 * result["top1"]
        )
  return found


def mean_of(values: Iterable[float]) -> Mean:
  array = np.array(list(values), float)
  deviation = float(array.std(ddof=1)) if len(array) > 1 else None
  return Mean(float(array.mean()), deviation, len(array))


def difference(arm: dict[Pair, float], base: dict[Pair, float]) -> Difference | None:
  """Of pairs that both have; None if they are fewer than `LEAST_SEEDS`."""
  shared = sorted(arm.keys() & base.keys())
  if len(shared) < LEAST_SEEDS:
    return None
  pairs = np.array([arm[pair] - base[pair] for pair in shared])
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
