"""Images as encoded files, read when they are needed, in TensorFlow."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from clim_jax.data.decode import decode_whole
from clim_jax.data.depth import ALL_BITS
from clim_jax.data.size import MOST_PIXELS
from clim_jax.data.source import NOTHING_SAID, About, BadImageError

NoTextError = UnicodeDecodeError  # instead of one of TensorFlow's that quotes a file
ReadError = tf.errors.OpError  # what reading a missing or forbidden file raises
_SEARCH_SECONDS = 30  # for other bad images, once one is found
_NAMED = 10  # of them, in an error
_INNER = re.compile(r"{{.*?}} | \[Op:\w+\]")  # TensorFlow's notes to itself


@dataclasses.dataclass(frozen=True)
class EncodedSource:
  """Images as bytes of image files, of any size, read when they are needed."""

  num_images: int
  labels: Callable[[], np.ndarray | None]  # may have to read the data once
  fetch: Callable[[tf.Tensor], tf.Tensor]  # ids of a batch → strings of its shape
  load: Callable[[tf.Tensor], tf.Tensor]  # one such string → its bytes
  name: Callable[[int], str]  # for messages
  about: About = NOTHING_SAID
  class_names: tuple[str, ...] = ()  # none: classes have numbers only
  white: int = ALL_BITS  # the value shown as white, of images of 16 bits
  max_pixels: int = MOST_PIXELS  # an image of more is bad
  on_bad_image: str = "raise"  # or "skip"
  # Images found bad, and those whose pixels are seen in their place.
  stand_ins: dict[int, int] = dataclasses.field(default_factory=dict)
  # Of `pipeline`, by what they cut: made once and used again.
  idle_pipelines: dict[Any, list[Any]] = dataclasses.field(
    default_factory=dict, init=False, repr=False, compare=False
  )

  def subset(self, ids: np.ndarray) -> "EncodedSource":
    labels = functools.cache(
      lambda: None if self.labels() is None else self.labels()[ids]
    )
    table = tf.constant(ids)  # once, not in the graph of each pipeline
    return dataclasses.replace(
      self,
      num_images=len(ids),
      labels=labels,
      fetch=lambda rows: self.fetch(tf.gather(table, rows)),
      name=lambda row: self.name(int(ids[row])),
      stand_ins={},
    )

  def without_labels(self) -> "EncodedSource":
    return dataclasses.replace(self, labels=lambda: None)

  def replace_bad(self, ids: np.ndarray) -> bool:
    """Finds stand-ins for those of `ids` that cannot be decoded; whether there are any.

    Where there are, the other images are looked through as well, for a while, so that
    bad ones are told together. The stand-in is the next image in order that can be
    decoded. It lends its pixels alone, so it depends neither on the step nor on the
    number of processes.

    Raises:
      BadImageError: there is one, and `on_bad_image` is "raise" or no image is good.
    """
    if not any(self._fault(image) for image in np.unique(ids).tolist()):
      return False
    faults, looked_at = self._search(np.unique(ids).tolist())
    found = f"cannot decode {len(faults)} of {looked_at} images looked at:"
    told = [f"\n  {self.name(image)}: {fault}" for image, fault in faults.items()]
    if self.on_bad_image == "raise":
      more = f"\n  and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
      raise BadImageError(
        f"{found}{''.join(told[:_NAMED])}{more}\n"
        "repair or remove them, or set data.on_bad_image=skip"
      )
    for image in faults:
      self.stand_ins[image] = self._stand_in(image, faults)
    logging.warning(  # of each: what is not raised is known from here alone
      "%s%s\nthe next good image is seen in place of each (bad images so far: %d)",
      found,
      "".join(told),
      len(self.stand_ins),
    )
    return True

  def _stand_in(self, image: int, faults: dict[int, str]) -> int:
    later = ((image + offset) % self.num_images for offset in range(1, self.num_images))
    for other in later:
      if other not in faults and self._fault(other) is None:
        return other
    raise BadImageError(
      f"no image can be decoded, nor {self.name(image)}: {faults[image]}"
    )

  def _search(self, first: Iterable[int]) -> tuple[dict[int, str], int]:
    """Images that cannot be decoded and why, in order; and how many were looked at."""
    faults: dict[int, str | None] = {}
    until = time.monotonic() + _SEARCH_SECONDS

    def look(image: int) -> None:
      if time.monotonic() < until and image not in faults:
        faults[image] = self._fault(image)

    for image in first:
      faults[image] = self._fault(image)
    with concurrent.futures.ThreadPoolExecutor() as pool:
      list(pool.map(look, range(self.num_images)))
    new = {
      image: fault
      for image, fault in sorted(faults.items())
      if fault and image not in self.stand_ins
    }
    return new, len(faults)

  def _fault(self, image: int) -> str | None:
    """Why an image cannot be decoded; None if it can."""
    try:
      decode_whole(self.encoded(image), self.max_pixels)
    except (ValueError, ReadError) as error:
      return fault_of(error)
    return None

  def encoded(self, image: int) -> tf.Tensor:
    """The bytes of its file, [] string."""
    return self.load(self.fetch(tf.constant([image], tf.int64))[0])


def fault_of(error: ValueError | ReadError) -> str:
  """What decoding an image raised, in a line."""
  if isinstance(error, ReadError):
    return _INNER.sub("", error.message.splitlines()[0])
  if isinstance(error, NoTextError):
    return _INNER.sub("", error.object.decode(errors="replace").splitlines()[0])
  return str(error)


@contextlib.contextmanager
def as_os_errors() -> Iterator[None]:
  """Raises OSError in place of `ReadError`."""
  try:
    yield
  except ReadError as error:
    raise OSError(error.message) from error
