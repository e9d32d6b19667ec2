"""Which crops a row has, and from which of its images each is cut."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from clim_jax.data.crops import Crop, RandomCrop
from clim_jax.data.index_stream import StepIndices


class ViewPlan(NamedTuple):
  """The crops of a row and what they are for."""

  crops: tuple[RandomCrop, ...]  # one for each side, largest first
  positive_queries: bool  # mixing needs crops of the positive to mix in

  @property
  def num_crops(self) -> int:
    """Random crops of a row; the same with and without positives."""
    return 2 * (len(self.crops) + 1)


class Cut(NamedTuple):
  """One crop of every row."""

  image: int  # which of the row's images
  crop: Crop
  in_key_order: bool = False  # rows are put in the order of `Element.key_order`


class Element(NamedTuple):
  """One batch before any pixel is read."""

  ids: np.ndarray  # [b, images of a row] int64
  uniforms: np.ndarray  # [b, cuts, UNIFORMS] float32
  key_order: np.ndarray  # [b] int64


class TrainCuts:
  """What is cut from which image of a row.

  Keys are shuffled over the global batch. A process that has all of it cuts the keys
  together with the queries of the same image, and puts them in order afterwards: each
  image is decoded once. Else it mostly has keys of other rows than its own, and decodes
  for queries and for keys.
  """

  def __init__(self, plan: ViewPlan, has_positives: bool, *, whole: bool) -> None:
    self._whole, self._sides = whole, len(plan.crops)
    self._has_positives = has_positives
    self._positive_queries = has_positives and plan.positive_queries
    self._num_images = 1 + has_positives
    # Slots of the uniform numbers: the same with and without positives.
    self._slots: list[int] = []
    self._cuts: list[Cut] = []
    for image, queries, key in (
      (0, True, True),
      (1, self._positive_queries, has_positives),
    ):
      first = image * (self._sides + 1)
      if queries:
        self._slots += range(first, first + self._sides)
        self._cuts += [Cut(image, crop) for crop in plan.crops]
      if key:
        self._slots.append(first + self._sides)
        self._cuts.append(self._key_cut(image, plan.crops[0]))

  def _key_cut(self, image: int, crop: RandomCrop) -> Cut:
    return Cut(image if self._whole else self._num_images + image, crop, self._whole)

  @property
  def cuts(self) -> tuple[Cut, ...]:
    return tuple(self._cuts)

  def element(self, indices: StepIndices, rows: slice) -> Element:
    """What these rows of a step's global batch need."""
    images = (indices.anchors, indices.positives)[: self._num_images]
    uniforms, order = indices.uniforms[:, self._slots], indices.key_order
    if not self._whole:
      images += tuple(ids[order] for ids in images)
      unused = np.arange(rows.stop - rows.start)
      return Element(np.stack(images, 1)[rows], uniforms[rows], unused)
    # Numbers follow the row of a key to the row of its anchor, where it is cut.
    shuffled = [slot for slot, cut in enumerate(self._cuts) if cut.in_key_order]
    uniforms[:, shuffled] = uniforms[np.argsort(order)][:, shuffled]
    return Element(np.stack(images, 1), uniforms, order)

  def fields(self, crops: Sequence[np.ndarray]) -> dict[str, Any]:
    """The crops as fields of `Batch`; `crops` are in the order of `cuts`."""
    query, key = tuple(crops[: self._sides]), crops[self._sides]
    rest = tuple(crops[self._sides + 1 :])
    return {
      "query": query,
      "key": key,
      "positive_query": rest[: self._sides] if self._positive_queries else (),
      "positive_key": rest[-1] if self._has_positives else None,
    }
