"""Labelled sets of images that an encoder is judged on."""

from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from clim_jax.configuration import ConfigError
from clim_jax.data.sources import ReadError, Source, load_source
from clim_jax.experiment import open_data

KINDS = "digits, npz:TRAIN[,TEST], folder:ROOT, tfds:NAME"


@dataclass(frozen=True)
class LabelledSet:
  """Training and test images, all labelled."""

  name: str
  train: Source
  test: Source
  train_labels: np.ndarray  # [N] int32 in [0, num_classes)
  test_labels: np.ndarray  # [N_test] int32
  num_classes: int


def labelled_set(name: str, train: Source, test: Source | None) -> LabelledSet | None:
  """None if there are no test images, or no labels."""
  if test is None or train.labels() is None or test.labels() is None:
    return None
  labels = train.labels().astype(np.int32), test.labels().astype(np.int32)
  num_classes = int(max(of_part.max() for of_part in labels)) + 1
  return LabelledSet(name, train, test, *labels, num_classes)


def evaluation_sets(
  config: ConfigDict, own: tuple[Source, Source | None] | None = None
) -> list[LabelledSet]:
  """The sets of `evaluation.datasets`, else the run's own; none without labels.

  Args:
    config: a whole config.
    own: the run's images, where they are open already.

  Raises:
    ConfigError: a set cannot be opened, or has no labels or test images.
  """
  if config.evaluation.datasets:
    return [_open_set(text, config.data) for text in config.evaluation.datasets]
  data = config.data
  name = data.tfds_name or data.path.rstrip("/").rsplit("/", 1)[-1] or data.source
  opened = labelled_set(name, *(own or open_data(config)))
  return [] if opened is None else [opened]


def _open_set(text: str, data: ConfigDict) -> LabelledSet:
  """Opens "KIND:WHERE"; splits and held-out share are those of the section `data`."""
  kind, _, where = text.partition(":")
  path, _, test_path = where.partition(",")
  is_tfds = kind == "tfds"
  # A TFDS data directory holds many builds.
  tfds_dir = data.path if data.source == "tfds" else ""
  try:
    train, test = load_source(
      kind,
      path=tfds_dir if is_tfds else path,
      test_path=test_path,
      tfds_name=path if is_tfds else "",
      train_split=data.train_split,
      test_split=data.test_split,
      test_fraction=data.test_fraction,
      on_bad_image=data.on_bad_image,
    )
  except (ValueError, OSError, ReadError) as error:
    raise ConfigError(
      f"evaluation.datasets: cannot open {text!r} (known are {KINDS}): {error}"
    ) from error
  name = path.rstrip("/").rsplit("/", 1)[-1].removesuffix(".npz") or kind
  opened = labelled_set(name, train, test)
  if opened is None:
    raise ConfigError(
      f"evaluation.datasets: {text!r} needs labels and test images: give it a test "
      f"part, or set data.test_fraction (now {data.test_fraction})"
    )
  return opened
