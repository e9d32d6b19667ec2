"""How fast a run is, of what its devices can, and how long it waits for data."""

import time
from collections.abc import Iterator
from typing import Any


class Meter:
  """Measures laps: the steps between two reports, without what else goes on."""

  def __init__(
    self,
    batch_size: int,
    *,
    first_step: int,
    num_devices: int,
    peak_flops: float | None,
  ) -> None:
    self._batch_size, self._num_devices = batch_size, num_devices
    self._peak_flops = peak_flops  # of one device, a second
    self._lap_start = first_step
    self._busy = self._waited = 0.0  # since then
    self._resumed: float | None = None
    self._all_steps, self._all_busy = 0, 0.0  # of the present program

  def wait(self, batches: Iterator[Any]) -> Any:
    """The next batch; the time until it is there counts as waiting."""
    started = time.perf_counter()
    if self._resumed is None:
      self._resumed = started
    batch = next(batches)
    self._waited += time.perf_counter() - started
    return batch

  def pause(self) -> None:
    """Stops the clock until the next batch is asked for."""
    if self._resumed is not None:
      self._busy += time.perf_counter() - self._resumed
      self._resumed = None

  def leave_out(self, step: int) -> None:
    """Forgets what was measured up to `step`, which is done: it was compiled."""
    self._lap_start, self._resumed = step, time.perf_counter()
    self._busy = self._waited = 0.0
    self._all_steps, self._all_busy = 0, 0.0

  def lap(self, step: int, flops: float) -> dict[str, float]:
    """Speed since the last lap; to be called as soon as `step` is done.

    Args:
      step: the last of the lap. A later one may be under way.
      flops: of one device in one step.

    Returns:
      Nothing if all steps of the lap were left out. `mfu`, the share of the devices'
      peak, where that is known.
    """
    now, steps = time.perf_counter(), step - self._lap_start
    if self._resumed is not None:
      self._busy += now - self._resumed
      self._resumed = now
    busy, waited = self._busy, self._waited
    self._lap_start, self._busy, self._waited = step, 0.0, 0.0
    if not steps:
      return {}
    self._all_steps, self._all_busy = self._all_steps + steps, self._all_busy + busy
    images_per_second = self._batch_size * steps / busy
    figures = {
      "images_per_second": images_per_second,
      "images_per_second_per_device": images_per_second / self._num_devices,
      "data_wait_fraction": waited / busy,
      "tflops_per_device": flops * steps / busy / 1e12,
    }
    if self._peak_flops:
      figures["mfu"] = flops * steps / busy / self._peak_flops
    return figures

  def seconds_per_step(self) -> float:
    """Of all laps of the present program; NaN before the first."""
    return self._all_busy / self._all_steps if self._all_steps else float("nan")
