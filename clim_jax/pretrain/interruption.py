"""What asks a run to stop before its end: SIGTERM, SIGINT, the notice of a cluster."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import jax
from jax.experimental import multihost_utils

_SAID = b"\nstopping as soon as the run is saved; a second signal leaves at once\n"


class Interrupted(KeyboardInterrupt):
  """A signal has ended the run, which is saved."""

  def __init__(self, number: int, text: str = "") -> None:
    super().__init__(text)
    self.exit_code = 128 + number  # as a shell has it: 130 for SIGINT, 143 for SIGTERM


class Interruption:
  """Notes the first signal and leaves at the second; within a `with`.

  Several processes stop at the same step, by JAX's preemption sync. It listens to
  SIGTERM itself; a SIGINT is passed on to it.
  """

  def __init__(self) -> None:
    self._together = jax.distributed.is_initialized()
    self._at_once = False
    self._before: dict[int, signal.Handlers] = {}
    self.number: int | None = None  # of the signal

  def __enter__(self) -> "Interruption":
    numbers = (signal.SIGINT,) if self._together else (signal.SIGINT, signal.SIGTERM)
    # Python allows handlers in the main thread alone.
    if threading.current_thread() is threading.main_thread():
      self._before = {n: signal.signal(n, self._note) for n in numbers}
    return self

  def __exit__(self, *_: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  def asked(self, step: int) -> bool:
    """Whether to stop after `step`; to be called at each, in all processes."""
    if self._together:
      return multihost_utils.reached_preemption_sync_point(step)
    return self.number is not None

  @contextlib.contextmanager
  def at_once(self) -> Iterator[None]:
    """Within it a signal raises `Interrupted`: for what is long and can be redone."""
    self._at_once = not self._together
    try:
      yield
    finally:
      self._at_once = False

  def ended(self, text: str) -> Interrupted:
    """To be raised once the run is saved."""
    return Interrupted(self.number or signal.SIGTERM, text)

  def _note(self, number: int, _: FrameType | None) -> None:
    if self.number is not None:
      os._exit(128 + number)
    self.number = number
    os.write(2, _SAID)  # of all ways to write, a handler may use this one
    if self._together:
      os.kill(os.getpid(), signal.SIGTERM)
    elif self._at_once:
      raise self.ended("")
