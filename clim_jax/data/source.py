"""Images with or without labels, opened."""

import dataclasses
from typing import NamedTuple, Protocol, Self

import jax
import numpy as np
from jax.sharding import Mesh

from clim_jax import sharding
from clim_jax.data.split import split_rows

NO_LABEL = -1  # of an image among others that have one


class BadImageError(ValueError):
  """Images that cannot be decoded; the message names them."""


class About(NamedTuple):
  """What whoever brings images should hear of them."""

  part: str = ""  # where they are from: "its own, val"
  facts: tuple[str, ...] = ()
  warnings: tuple[str, ...] = ()


NOTHING_SAID = About()


class Source(Protocol):
  """What arrays in memory and encoded files have in common."""

  num_images: int
  about: About
  class_names: tuple[str, ...]  # none: classes have numbers only
  stand_ins: dict[int, int]  # bad images, and those whose pixels are seen instead

  def labels(self) -> np.ndarray | None:
    """[N] int64, NO_LABEL where an image has none; None: no image has one."""

  def name(self, image: int) -> str:
    """For messages."""

  def subset(self, ids: np.ndarray) -> Self: ...

  def without_labels(self) -> Self: ...


@dataclasses.dataclass(frozen=True)
class ArraySource:
  """Equally large images in memory."""

  images: np.ndarray  # [N, H, W, 3] uint8
  known_labels: np.ndarray | None  # [N] int64
  about: About = NOTHING_SAID
  called: str = "image"  # before the number of an image
  rows: np.ndarray | None = None  # these numbers, [N] int64; None: 0 … N − 1
  class_names: tuple[str, ...] = ()  # none: classes have numbers only
  crops: str = "auto"  # where they are cut: auto | device | host
  _placed: dict[Mesh, jax.Array] = dataclasses.field(
    default_factory=dict, init=False, repr=False, compare=False
  )

  @property
  def num_images(self) -> int:
    return len(self.images)

  @property
  def stand_ins(self) -> dict[int, int]:
    """None: an array holds no bad image."""
    return {}

  def labels(self) -> np.ndarray | None:
    return self.known_labels

  def name(self, image: int) -> str:
    return f"{self.called}[{image if self.rows is None else self.rows[image]}]"

  def subset(self, ids: np.ndarray) -> "ArraySource":
    labels = None if self.known_labels is None else self.known_labels[ids]
    rows = ids if self.rows is None else self.rows[ids]
    return dataclasses.replace(
      self, images=self.images[ids], known_labels=labels, rows=rows
    )

  def without_labels(self) -> "ArraySource":
    return dataclasses.replace(self, known_labels=None)

  def on(self, mesh: Mesh) -> jax.Array:
    """All images on every device of a mesh, put there once, [N, H, W, 3] uint8."""
    if mesh not in self._placed:
      # Not device_put, which sends the whole to the other processes to compare it.
      self._placed[mesh] = jax.make_array_from_callback(
        self.images.shape, sharding.replicated(mesh), self.images.__getitem__
      )
    return self._placed[mesh]


def said_of(
  source: Source,
  part: str = "",
  facts: tuple[str, ...] = (),
  warnings: tuple[str, ...] = (),
) -> Source:
  """The source with more in its `about`."""
  old = source.about
  about = About(part or old.part, old.facts + facts, old.warnings + warnings)
  return dataclasses.replace(source, about=about)


def with_stand_ins(source: Source, ids: np.ndarray) -> np.ndarray:
  """Whose pixels are seen for `ids`, as far as bad images are known by now."""
  out = ids
  for bad, stand_in in source.stand_ins.items():
    out = np.where(ids == bad, stand_in, out)
  return out


def hold_out(train: Source, fraction: float) -> tuple[Source, Source]:
  """Splits test images off the labelled ones, by class if there are enough."""
  labels = train.labels()
  labelled = np.flatnonzero(labels != NO_LABEL)
  if len(labelled) < 2:
    raise ValueError(
      f"of {len(labelled)} labelled image none can be held out to test on; set "
      "data.test_fraction=0"
    )
  # A fixed seed: the test images must not change with the seed of a run.
  _, held = split_rows(labels[labelled], held_out=fraction, seed=0)
  held = np.sort(labelled[held])
  kept = np.setdiff1d(np.arange(train.num_images), held)
  share = f"{fraction:.0%} held out of its training images"
  test = train.subset(held)
  return train.subset(kept), dataclasses.replace(test, about=About(part=share))
