"""Labelled sets of images that an encoder is judged on."""

from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from clim_jax.data.source import Source
from clim_jax.data.sources import load_source
from clim_jax.experiment.configuration import ConfigError
from clim_jax.experiment.experiment import exclusion_of, open_data

KINDS = "digits, npz:TRAIN[,TEST], folder:ROOT[@TRAIN,TEST], tfds:NAME[@TRAIN,TEST]"
_HELD_OUT = 0.2  # of the training images, by class, where a set has no test part


@dataclass(frozen=True)
class LabelledSet:
  """Training and test images, all labelled; classes are those of the training part."""

  name: str
  train: Source
  test: Source
  train_labels: np.ndarray  # [N] int32 in [0, num_classes)
  test_labels: np.ndarray  # [N_test] int32; −1: of a class that training has not
  num_classes: int
  test_part: str  # where the test images are from, for the stamp


def labelled_set(name: str, train: Source, test: Source | None) -> LabelledSet | None:
  """Of the images that have labels; None if a part has none."""
  parts = [_labelled(part) for part in (train, test) if part is not None]
  if len(parts) < 2 or None in parts:
    return None
  train, test = parts
  labels = train.labels(), test.labels()
  classes = np.unique(labels[0])
  train_labels, test_labels = (np.searchsorted(classes, part) for part in labels)
  unknown = ~np.isin(labels[1], classes)
  return LabelledSet(
    name,
    train,
    test,
    train_labels.astype(np.int32),
    np.where(unknown, -1, test_labels).astype(np.int32),
    len(classes),
    test.about.part,
  )


def _labelled(source: Source) -> Source | None:
  """The images that have a label, if there are any."""
  labels = source.labels()
  if labels is None or (labels < 0).all():
    return None
  if (labels >= 0).all():
    return source
  return source.subset(np.flatnonzero(labels >= 0))


def evaluation_sets(
  config: ConfigDict, own: tuple[Source, Source | None] | None = None
) -> list[LabelledSet]:
  """The sets of `evaluation.datasets`, else the run's own; none without labels.

  Args:
    config: a whole config.
    own: the run's images, where they are open already.

  Raises:
    ConfigError: a set cannot be opened, has no labels, or has another's name.
  """
  if config.evaluation.datasets:
    sets = [_open_set(text, config.data) for text in config.evaluation.datasets]
    names = [opened.name for opened in sets]
    if len(set(names)) < len(names):
      raise ConfigError(
        f"evaluation.datasets are named {', '.join(names)}, by the last part of their "
        "paths, which must differ: rename one"
      )
    return sets
  data = config.data
  name = data.tfds_name or data.path.rstrip("/").rsplit("/", 1)[-1] or data.source
  opened = labelled_set(name, *(own or open_data(config)))
  return [] if opened is None else [opened]


def _open_set(text: str, data: ConfigDict) -> LabelledSet:
  """Opens "KIND:WHERE"; TFDS's directory and bad images are as `data` says."""
  kind, _, where = text.partition(":")
  where, _, splits = where.partition("@")
  path, _, test_path = where.partition(",")
  train_split, _, test_split = splits.partition(",")
  is_tfds = kind == "tfds"
  try:
    train, test = load_source(
      kind,
      # A TFDS data directory holds many builds.
      path=data.path if is_tfds and data.source == "tfds" else "" if is_tfds else path,
      test_path=test_path,
      tfds_name=path if is_tfds else "",
      train_split=train_split or "train",
      test_split=test_split or "test",
      test_fraction=_HELD_OUT,
      on_bad_image=data.on_bad_image,
      white_level=data.white_level,
      max_pixels=data.max_pixels,
      exclude=exclusion_of(data) if kind == data.source else None,
      crops=data.crops,
    )
  except (ValueError, OSError) as error:
    raise ConfigError(
      f"evaluation.datasets: cannot open {text!r} (known are {KINDS}): {error}"
    ) from error
  name = path.rstrip("/").rsplit("/", 1)[-1].removesuffix(".npz") or kind
  opened = labelled_set(name, train, test)
  if opened is None:
    raise ConfigError(
      f"evaluation.datasets: {text!r} has images without labels; a folder needs a "
      "folder a class, a .npz an array `label`, TFDS a feature `label`"
    )
  return opened
