"""The grid of the ablation: arms, what each data set runs, sweeps, and the cells."""

import pathlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from benchmarks.ablation_sets import (
  CIFAR,
  CIFAR_TRAIN,
  DIGITS,
  DIGITS_TRAIN,
  IMAGENETTE,
  IMAGENETTE_TRAIN,
  DataSet,
  Overrides,
)


class Cell(NamedTuple):
  """One run of the grid."""

  name: str  # such as "digits/center_wise/seed=3"
  data: DataSet
  arm: str
  overrides: Overrides  # of the arm, over those of the data set
  seed: int

  def arguments(self, data: pathlib.Path, workdir: pathlib.Path) -> list[str]:
    """Of main.py."""
    keys = {**self.data.overrides, **self.overrides, "seed": self.seed}
    values = {
      key: str(value).replace("{data}", str(data)) for key, value in keys.items()
    }
    return [
      f"--config={self.data.config}",
      f"--workdir={workdir}",
      *(f"--config.{key}={value}" for key, value in values.items()),
    ]


def _arm(rule: str = "center_wise", **keys: object) -> Overrides:
  return {
    "selection.rule": rule,
    **{key.replace("__", "."): value for key, value in keys.items()},
  }


# The order is that of running: the questions asked most come first.
ARMS: dict[str, Overrides] = {
  "moco": _arm("none"),
  "center_wise": _arm(),
  "knn": _arm("knn"),
  "sides": _arm("none"),
  "full": _arm(),
  "knn_cluster": _arm("knn_cluster"),
  "cluster": _arm("cluster"),
  "cluster_closer": _arm("cluster_closer"),
  "random": _arm(),
  "same_label": _arm(),
  "direct": _arm(mixture__kind="direct"),
  "mixup": _arm(mixture__kind="mixup"),
  "mixed_only": _arm(mixture__weight=1.0),
  "full_mixed_only": _arm(mixture__weight=1.0),
  "full_knn": _arm("knn"),
  "nnclr": _arm("none"),
  "centred": _arm(),
  # CLIM's time on the digits: 40 epochs take 94 s of MoCo v2 and 171 s of CLIM at one
  # side; 75 epochs of MoCo v2 take 121 s, so an epoch 0.77 s.
  "moco_equal_time": _arm("none", epochs=140),
}
SCIENCE = ("random", "same_label", "nnclr", "centred")  # by ablation_arms.py
# By ablation_lightly.py: another library's MoCo v2, on the CIFAR part alone.
PEERS: dict[str, Overrides] = {"lightly": _arm("none")}
_WITH_SIDES = ("sides", "full", "full_mixed_only", "full_knn")


class Plan(NamedTuple):
  """Arms on a data set, or with `values` a sweep: each value in an arm's place."""

  data: DataSet
  arms: tuple[str, ...]
  seeds: int
  values: Mapping[str, tuple[object, ...]] = MappingProxyType({})  # one at a time


# The arm's own run has the default's value. Of N images, N / centers is how many a
# cluster has; of 8 groups of batch normalisation each has 8 images of a batch of 64.
_DIGITS_SWEEP = {
  "selection.num_neighbours": (5, 10, 40),
  "selection.num_centers": (10, 20, 80, 160),
  "selection.refresh_epochs": (1, 2, 10),
  "selection.warmup_epochs": (4, 16),
  "mixture.alpha": (0.5, 1.0, 8.0),
  "mixture.weight": (0.25, 0.75),
  "moco.momentum": (0.9, 0.96, 0.999),
  "moco.temperature": (0.05, 0.2),
  "model.batch_norm_groups": (1, 2),
}
_RECIPE_SWEEP = {
  "moco.temperature": (0.07, 0.2),
  "moco.momentum": (0.95, 0.999),
  "optimizer.learning_rate": (0.03, 0.12),
}
_ONE_GROUP = {"model.batch_norm_groups": (1,)}
PLANS = (
  Plan(DIGITS, tuple(ARMS), 10),
  Plan(
    CIFAR,
    (
      "moco",
      "center_wise",
      "knn",
      "sides",
      "full",
      "knn_cluster",
      "random",
      "same_label",
      "centred",
      "lightly",
    ),
    3,
  ),
  Plan(CIFAR, ("moco", "full"), 10),
  Plan(IMAGENETTE, ("moco", "sides", "center_wise", "full"), 3),
  Plan(DIGITS_TRAIN, ("center_wise", "full", "mixed_only", "full_mixed_only"), 5),
  Plan(CIFAR_TRAIN, ("moco", "full"), 3),
  Plan(IMAGENETTE_TRAIN, ("moco", "full"), 3),
  # The peer's batch normalisation is over the whole batch.
  Plan(CIFAR, ("moco", "full"), 3, _ONE_GROUP),
  Plan(CIFAR_TRAIN, ("moco", "full"), 3, _ONE_GROUP),
  Plan(IMAGENETTE_TRAIN, ("moco", "full"), 3, _ONE_GROUP),
  Plan(DIGITS_TRAIN, ("center_wise",), 5, _DIGITS_SWEEP),
  Plan(CIFAR_TRAIN, ("full",), 3, _RECIPE_SWEEP),
  Plan(IMAGENETTE_TRAIN, ("full",), 3, _RECIPE_SWEEP),
)


def cells() -> Iterator[Cell]:
  """All of them, in the order of running: arms, then sweeps, seed by seed."""
  named: dict[str, Cell] = {}  # more seeds of an arm are a plan of their own
  for seed in range(max(plan.seeds for plan in PLANS)):
    for plan in PLANS:
      if seed < plan.seeds:
        named |= {cell.name: cell for cell in _cells_of(plan, seed)}
  yield from sorted(named.values(), key=lambda cell: bool(swept(cell.name)))


def swept(name: str) -> str:
  """What a cell changes, or nothing: DATA/ARM/KEY=VALUE/seed=S."""
  return "/".join(name.split("/")[2:-1])


def _cells_of(plan: Plan, seed: int) -> Iterator[Cell]:
  for key, values in plan.values.items():
    for value in values:
      for arm in plan.arms:
        yield _cell(plan.data, arm, {key: value}, seed)
  if not plan.values:
    for arm in plan.arms:
      yield _cell(plan.data, arm, {}, seed)


def _cell(data: DataSet, arm: str, changed: Overrides, seed: int) -> Cell:
  overrides = (ARMS | PEERS)[arm] | changed
  if arm in _WITH_SIDES:
    overrides = overrides | data.sides
  if arm != "moco" or changed:  # its cells judge untrained features and pixels for all
    overrides = overrides | {"evaluation.references": ()}
  parts = [f"{key}={value}" for key, value in changed.items()]
  name = "/".join([data.name, arm, *parts, f"seed={seed}"])
  return Cell(name, data, arm, overrides, seed)
