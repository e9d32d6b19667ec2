"""Which crops a row has, and from which of its images each is cut."""

import dataclasses
import functools
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


@dataclasses.dataclass(frozen=True)
class TrainCuts:
  """What is cut from which image of a row.

  Keys are shuffled over the global batch. Where the rows are all of it (`whole`), the
  keys can be cut together with the queries of the same image, and put in order
  afterwards: each image is decoded once. Else keys are mostly of other rows, and cut by
  themselves.
  """

  plan: ViewPlan
  has_positives: bool
  whole: bool

  @property
  def _num_images(self) -> int:
    return 1 + self.has_positives

  @property
  def _positive_queries(self) -> bool:
    return self.has_positives and self.plan.positive_queries

  @functools.cached_property
  def _cuts_by_slot(self) -> dict[int, Cut]:
    """Slots of the uniform numbers are the same with and without positives."""
    found, sides = {}, len(self.plan.crops)
    for image, queries, key in (
      (0, True, True),
      (1, self._positive_queries, self.has_positives),
    ):
      first = image * (sides + 1)
      if queries:
        found |= {first + i: Cut(image, crop) for i, crop in enumerate(self.plan.crops)}
      if key:
        found[first + sides] = self._key_cut(image, self.plan.crops[0])
    return found

  def _key_cut(self, image: int, crop: RandomCrop) -> Cut:
    return Cut(image if self.whole else self._num_images + image, crop, self.whole)

  @property
  def cuts(self) -> tuple[Cut, ...]:
    return tuple(self._cuts_by_slot.values())

  def element(self, indices: StepIndices, rows: slice) -> Element:
    """What these rows of a step's global batch need."""
    images = (indices.anchors, indices.positives)[: self._num_images]
    uniforms, order = indices.uniforms[:, list(self._cuts_by_slot)], indices.key_order
    if not self.whole:
      images += tuple(ids[order] for ids in images)
      unused = np.arange(rows.stop - rows.start)
      return Element(np.stack(images, 1)[rows], uniforms[rows], unused)
    # Numbers follow the row of a key to the row of its anchor, where it is cut.
    shuffled = [slot for slot, cut in enumerate(self.cuts) if cut.in_key_order]
    uniforms[:, shuffled] = uniforms[np.argsort(order)][:, shuffled]
    return Element(np.stack(images, 1), uniforms, order)

  def fields(self, crops: Sequence[np.ndarray]) -> dict[str, Any]:
    """The crops as fields of `Batch`; `crops` are in the order of `cuts`."""
    sides = len(self.plan.crops)
    query, key = tuple(crops[:sides]), crops[sides]
    rest = tuple(crops[sides + 1 :])
    return {
      "query": query,
      "key": key,
      "positive_query": rest[:sides] if self._positive_queries else (),
      "positive_key": rest[-1] if self.has_positives else None,
    }
