"""A progress bar on a terminal, a line now and then in a log file."""

import math
import time

from rich.console import Console
from rich.progress import (
  BarColumn,
  MofNCompleteColumn,
  Progress,
  SpinnerColumn,
  TextColumn,
)
from rich.table import Column

from clim_jax.experiment.cautions import warn
from clim_jax.pretrain.logs import Scalars
from clim_jax.pretrain.phases import clock

_LINE_SECONDS = 15.0  # between two lines where there is no terminal
_BAR_WIDTH = 12  # columns: the figures want the rest


class TrainProgress:
  """Shows step, epoch, loss beside chance, speed, time left, and what was last."""

  def __init__(
    self,
    console: Console,
    *,
    first_step: int,
    total_steps: int,
    epochs: int,
    chance_loss: float,
  ) -> None:
    """`chance_loss`: of an encoder that cannot tell a key from the queue's."""
    self._console, self._total, self._epochs = console, total_steps, epochs
    self._chance_loss = chance_loss
    self._last_line = time.monotonic()
    self._latest: dict[str, str] = {}
    # The figures may take a second line where the terminal is narrow.
    figures = Column(no_wrap=False, overflow="fold")
    self._bar = Progress(
      SpinnerColumn(),
      BarColumn(_BAR_WIDTH),
      MofNCompleteColumn(),
      TextColumn("{task.fields[text]}", table_column=figures),
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

  def compiling(self) -> None:
    """The next step takes its time."""
    text = "compiling: seconds, or minutes for a large network"
    self._bar.update(self._task, text=text)
    if not self._console.is_terminal:
      self.note(text)

  def selecting(self) -> None:
    """All images are looked through for similar ones."""
    self._bar.update(self._task, text="looking for similar images")

  def latest(self, kind: str, text: str) -> None:
    """The newest of its kind is shown beside the figures of the steps."""
    self._latest[kind] = text

  def figures(self, step: int, record: Scalars, *, seconds_left: float) -> None:
    """Shows a record of the log; `seconds_left` may be NaN."""
    parts = [
      f"epoch {record['epoch']:.1f}/{self._epochs}",
      f"loss {record['loss']:.2f} (chance {self._chance_loss:.2f})",
      f"contrast accuracy {record['contrast_accuracy']:.0%}",
    ]
    if "images_per_second" in record:
      parts.append(f"{record['images_per_second']:,.0f} images/s")
    if "data_wait_fraction" in record:
      parts.append(f"data wait {record['data_wait_fraction']:.0%}")
    parts += self._latest.values()
    if math.isfinite(seconds_left) and step < self._total:
      parts.append(f"{clock(seconds_left)} left")
    text = "  ".join(parts)
    self._bar.update(self._task, completed=step, text=text)
    now = time.monotonic()
    is_due = step == self._total or now - self._last_line >= _LINE_SECONDS
    if is_due and not self._console.is_terminal:
      self._last_line = now
      self.note(f"step {step}/{self._total}  {text}")

  def note(self, text: str) -> None:
    """A line of its own, above the bar."""
    self._console.print(text, highlight=False, soft_wrap=True)

  def warn(self, text: str) -> None:
    """Likewise, and said even if the console is quiet."""
    warn(self._console, [text])
