"""A progress bar on a terminal, a line now and then in a log file."""

import time

from rich.console import Console
from rich.progress import (
  BarColumn,
  MofNCompleteColumn,
  Progress,
  TextColumn,
  TimeRemainingColumn,
)

_LINE_SECONDS = 15.0  # between two lines where there is no terminal


class TrainProgress:
  """Shows step, loss, images/s and time left."""

  def __init__(self, console: Console, *, first_step: int, total_steps: int) -> None:
    self._console, self._first, self._total = console, first_step, total_steps
    self._started = self._last_line = time.monotonic()
    self._bar = Progress(
      TextColumn("pretrain"),
      BarColumn(),
      MofNCompleteColumn(),
      TextColumn("{task.fields[text]}"),
      TimeRemainingColumn(),
      console=console,
      disable=not console.is_terminal,
    )
    self._task = self._bar.add_task(
      "", total=total_steps, completed=first_step, text=""
    )

  def __enter__(self) -> "TrainProgress":
    self._bar.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._bar.stop()

  def advance(self, step: int) -> None:
    """`step` updates have been dispatched."""
    self._bar.update(self._task, completed=step)

  def figures(
    self, step: int, *, epoch: float, loss: float, images_per_second: float
  ) -> None:
    """Shows the figures of a logged step."""
    text = f"epoch {epoch:.1f}  loss {loss:.3f}  {images_per_second:,.0f} images/s"
    self._bar.update(self._task, completed=step, text=text)
    now = time.monotonic()
    if self._console.is_terminal or now - self._last_line < _LINE_SECONDS:
      return
    self._last_line = now
    per_step = (now - self._started) / max(step - self._first, 1)
    left = time.strftime("%H:%M:%S", time.gmtime((self._total - step) * per_step))
    self._console.print(f"step {step}/{self._total}  {text}  {left} left")

  def note(self, text: str) -> None:
    """A line of its own, above the bar."""
    self._console.print(text, highlight=False)
