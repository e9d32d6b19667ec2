"""The grid of the ablation: arms, data sets, sweeps, and the cells that they make."""

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

Overrides = dict[str, object]  # keys of a config, without the leading "config."


class DataSet(NamedTuple):
  """Images and the recipe that all arms on them share."""

  name: str
  about: str  # which images train, and which test
  config: str  # of configs/
  overrides: Overrides  # {data} stands for the folder of --data
  sides: Overrides  # what "+ several sides" adds
  seeds: int
  arms: tuple[str, ...]
  raw: bool = True  # made of files in the folder of raw data sets


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

DIGITS = DataSet(
  "digits",
  about="scikit-learn's digits: 1,437 train, 360 test.",
  config="digits",
  overrides={
    "log.destinations": (),
    "report.at_end": False,
    "views.sides": 16,
    "views.min_scales": 0.2,
    "views.max_scales": 1.0,
  },
  sides={  # as in the config
    "views.sides": (16, 12),
    "views.min_scales": (0.2, 0.15),
    "views.max_scales": (1.0, 0.75),
  },
  seeds=10,
  arms=tuple(ARMS),
  raw=False,
)
# Defaults are chosen here: the training images of the digits, a fifth of them held out.
DIGITS_TRAIN = DIGITS._replace(
  name="digits_train",
  about="The 1,437 alone: a fifth is held out and tests. Defaults are chosen here.",
  overrides={
    **DIGITS.overrides,
    "data.source": "npz",
    "data.path": "{data}/digits_train.npz",
  },
  seeds=5,
  arms=("center_wise", "full", "mixed_only", "full_mixed_only"),
)
# On two cores, so with a small network; the rest is what a person's own images get.
_SMALL_NETWORK = {
  "model.backbone": "resnet_small",
  "model.width": 32,  # on CIFAR-10 165 images/s of MoCo v2 on a core: 16 there
  "model.hidden_dim": 512,
  "log.destinations": (),
  "report.at_end": False,
}
CIFAR = DataSet(
  "cifar10_part",
  about="CIFAR-10 as JPEG, the first of each class: 5,000 train, 2,000 test.",
  config="own_images:5000",
  overrides={
    **_SMALL_NETWORK,
    "data.source": "npz",
    "data.path": "{data}/cifar10_part/train.npz",
    "data.test_path": "{data}/cifar10_part/test.npz",
    "model.stem": "cifar",
    "model.width": 16,
    "views.sides": 32,
    "views.min_scales": 0.2,
    "views.max_scales": 1.0,
    "views.evaluation_side": 32,
  },
  sides={
    "views.sides": (32, 24),
    "views.min_scales": (0.2, 0.15),
    "views.max_scales": (1.0, 0.75),
  },
  seeds=3,
  arms=(
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
)
IMAGENETTE = DataSet(
  "imagenette96",
  about="Imagenette at 96 px: 2,500 photographs train, 600 test.",
  config="own_images:2500",
  overrides={
    **_SMALL_NETWORK,
    "data.source": "npz",
    "data.path": "{data}/imagenette96_small/train.npz",
    "data.test_path": "{data}/imagenette96_small/val.npz",
    "views.sides": 64,
    "views.min_scales": 0.2,
    "views.max_scales": 1.0,
    "evaluation.scales": (0.75, 1.0, 1.5),
  },
  sides={
    "views.sides": (64, 48),
    "views.min_scales": (0.2, 0.15),
    "views.max_scales": (1.0, 0.75),
  },
  seeds=3,
  arms=("moco", "sides", "center_wise", "full"),
)
DATA_SETS = (DIGITS, CIFAR, IMAGENETTE, DIGITS_TRAIN)

# One factor at a time, by the CLIM arm; the default's own value is the arm itself. Of N
# images, N / centers is how many a cluster has.
SWEEPS: dict[str, tuple[object, ...]] = {
  "selection.num_neighbours": (5, 10, 40),
  "selection.num_centers": (10, 20, 80, 160),
  "selection.refresh_epochs": (1, 2, 10),
  "selection.warmup_epochs": (4, 16),
  "mixture.alpha": (0.5, 1.0, 8.0),
  "mixture.weight": (0.25, 0.75),
  "moco.momentum": (0.9, 0.96, 0.999),
  "moco.temperature": (0.05, 0.2),
  "model.batch_norm_groups": (1, 2),  # of 8: a group of a batch of 64 has 8 images
}
_SWEEP_SEEDS = 5


def cells() -> Iterator[Cell]:
  """All of them, in the order of running: a seed of every arm before the next seed."""
  for seed in range(max(data.seeds for data in DATA_SETS)):
    for data in DATA_SETS:
      if seed < data.seeds:
        yield from (_cell(data, arm, (ARMS | PEERS)[arm], seed) for arm in data.arms)
  for seed in range(_SWEEP_SEEDS):
    for key, values in SWEEPS.items():
      for value in values:
        yield _cell(DIGITS_TRAIN, "center_wise", _arm() | {key: value}, seed)


def swept(name: str) -> str:
  """What a cell changes, or nothing: DATA/ARM/KEY=VALUE/seed=S."""
  return "/".join(name.split("/")[2:-1])


def _cell(data: DataSet, arm: str, overrides: Overrides, seed: int) -> Cell:
  if arm in _WITH_SIDES:
    overrides = overrides | data.sides
  if arm != "moco":  # whose cells judge untrained features and pixels for all arms
    overrides = overrides | {"evaluation.references": ()}
  changed = [f"{key}={overrides[key]}" for key in overrides if key in SWEEPS]
  changed = [one for one in changed if one.split("=")[0] not in ARMS[arm]]
  name = "/".join([data.name, arm, *changed, f"seed={seed}"])
  return Cell(name, data, arm, overrides, seed)
