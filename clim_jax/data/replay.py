"""Elements for a pipeline that may break down and be built anew."""

import collections
import threading
from collections.abc import Iterator

from clim_jax.data.cuts import Element


class Replay:
  """Elements that can be taken back and handed out again, to another thread."""

  def __init__(self, elements: Iterator[Element]) -> None:
    self._fresh = elements
    self._again: collections.deque[Element] = collections.deque()
    self._under_way: collections.deque[Element] = collections.deque()
    self._round = 0
    self._lock = threading.Lock()

  def hand_out(self) -> Iterator[Element]:
    """Elements until the end, or until they are taken back."""
    this_round = self._round
    while True:
      with self._lock:
        if this_round != self._round:
          return
        element = self._again.popleft() if self._again else next(self._fresh, None)
        if element is None:
          return
        self._under_way.append(element)
      yield element

  def done(self) -> None:
    """The oldest element under way has become a batch."""
    with self._lock:
      self._under_way.popleft()

  def take_back(self) -> list[Element]:
    """Ends the round; what was under way comes first in the next."""
    with self._lock:
      self._round += 1
      under_way = list(self._under_way)
      self._again.extendleft(reversed(under_way))
      self._under_way.clear()
    return under_way
