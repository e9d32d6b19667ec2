"""How fast a run is, of what its devices can, and how long it waits for data."""

import time
from collections.abc import Iterator
from typing import Any


class Meter:
  """Measures laps: the steps between two reports, selection left out."""

  def __init__(
    self, batch_size: int, *, num_devices: int, peak_flops: float | None
  ) -> None:
    self._batch_size, self._num_devices = batch_size, num_devices
    self._peak_flops = peak_flops  # of one device, a second
    self._steps = 0  # begun since the last lap
    self._busy = self._waited = 0.0
    self._resumed: float | None = None
    self._seconds_per_step = float("nan")

  def wait(self, batches: Iterator[Any]) -> Any:
    """The next batch; the time until it is there counts as waiting."""
    started = time.perf_counter()
    if self._resumed is None:
      self._resumed = started
    batch = next(batches)
    self._waited += time.perf_counter() - started
    self._steps += 1
    return batch

  def pause(self) -> None:
    """Stops the clock until the next batch is asked for."""
    if self._resumed is not None:
      self._busy += time.perf_counter() - self._resumed
      self._resumed = None

  def lap(self, flops: float | None) -> dict[str, float]:
    """Speed since the last lap; to be called when its steps are done.

    Args:
      flops: of one device in one step; None if they cannot be told.

    Returns:
      With `flops` also `tflops_per_device`, a second, and on devices whose peak is
      known `mfu`, their share of it.
    """
    self.pause()
    busy, steps = max(self._busy, 1e-9), max(self._steps, 1)
    images_per_second = self._batch_size * steps / busy
    figures = {
      "images_per_second": images_per_second,
      "images_per_second_per_device": images_per_second / self._num_devices,
      "data_wait_fraction": self._waited / busy,
    }
    if flops:
      figures["tflops_per_device"] = flops * steps / busy / 1e12
      if self._peak_flops:
        figures["mfu"] = flops * steps / busy / self._peak_flops
    self._seconds_per_step = busy / steps
    self._steps, self._busy, self._waited = 0, 0.0, 0.0
    return figures

  def seconds_per_step(self) -> float:
    """Of the last lap; NaN before the first."""
    return self._seconds_per_step
