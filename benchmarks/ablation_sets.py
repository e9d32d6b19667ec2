"""The data sets of the ablation: images, and the recipe that all arms on them share."""

from typing import NamedTuple

Overrides = dict[str, object]  # keys of a config, without the leading "config."


class DataSet(NamedTuple):
  """Images and the recipe that all arms on them share."""

  name: str
  about: str  # which images train, and which test
  config: str  # of configs/
  overrides: Overrides  # {data} stands for the folder of --data
  sides: Overrides  # what "+ several sides" adds
  raw: bool = True  # made of files in the folder of raw data sets
  chooses: bool = False  # values are chosen on it, so it tests no arm


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
  raw=False,
)
# Defaults are chosen here: the training images of the digits, a fifth of them held out.
DIGITS_TRAIN = DIGITS._replace(
  name="digits_train",
  about="The 1,437 alone: a fifth is held out and tests. Defaults are chosen here.",
  chooses=True,
  overrides={
    **DIGITS.overrides,
    "data.source": "npz",
    "data.path": "{data}/digits_train.npz",
  },
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
)
# The recipe for one's own images is chosen on these, so on no image that tests an arm.
CIFAR_TRAIN = CIFAR._replace(
  name="cifar10_train",
  about="The 5,000 alone: a fifth is held out. `own_images` is chosen here.",
  config="own_images:4000",
  chooses=True,
  overrides={**CIFAR.overrides, "data.test_path": ""},
)
IMAGENETTE_TRAIN = IMAGENETTE._replace(
  name="imagenette96_train",
  about="The 2,500 alone: a fifth is held out. `own_images` is chosen here.",
  config="own_images:2000",
  chooses=True,
  overrides={**IMAGENETTE.overrides, "data.test_path": ""},
)
DATA_SETS = (DIGITS, CIFAR, IMAGENETTE, DIGITS_TRAIN, CIFAR_TRAIN, IMAGENETTE_TRAIN)
