"""What the time of a session goes to."""

import contextlib
import datetime
import time
from collections.abc import Iterator


class Phases:
  """Sums up seconds by the name of what was done."""

  def __init__(self, rest: str = "") -> None:
    """`rest`: what all other time counts as; "": it is left out."""
    self._rest, self._started = rest, time.perf_counter()
    self._seconds: dict[str, float] = {}

  @contextlib.contextmanager
  def __call__(self, name: str) -> Iterator[None]:
    """All that is done inside counts as `name`."""
    started = time.perf_counter()
    try:
      yield
    finally:
      spent = time.perf_counter() - started
      self._seconds[name] = self._seconds.get(name, 0.0) + spent

  def summary(self) -> str:
    """Such as `took 0:03:02: steps 0:02:31, compiling 0:00:20, selections 0:00:11`."""
    total = time.perf_counter() - self._started
    parts = self._seconds
    if self._rest:
      parts = {self._rest: total - sum(self._seconds.values())} | parts
    told = ", ".join(f"{name} {clock(seconds)}" for name, seconds in parts.items())
    return f"took {clock(total)}: {told}"


def clock(seconds: float) -> str:
  """Such as `0:03:02`."""
  return str(datetime.timedelta(seconds=round(seconds)))
