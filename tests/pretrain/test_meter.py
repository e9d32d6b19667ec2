"""How fast a run goes, by a clock that is set by hand."""

import math

import pytest

from clim_jax.pretrain import meter as meter_module
from clim_jax.pretrain.meter import Meter


class Clock:
  """Also batches, each of which takes half a second."""

  def __init__(self):
    self.now = 0.0

  def __iter__(self):
    while True:
      self.now += 0.5
      yield None


@pytest.fixture
def clock(monkeypatch):
  clock = Clock()
  monkeypatch.setattr(meter_module.time, "perf_counter", lambda: clock.now)
  return clock


def meter_of(*, first_step=0, peak_flops=None):
  return Meter(64, first_step=first_step, num_devices=4, peak_flops=peak_flops)


def steps(meter, clock, number, *, seconds):
  """So many batches are waited for, and the steps take as long."""
  batches = iter(clock)
  for _ in range(number):
    meter.wait(batches)
    clock.now += seconds


@pytest.mark.parametrize(("peak", "mfu"), [(8e12, 0.25), (None, None)])
def test_speed_is_counted_a_device(peak, mfu, clock):
  meter = meter_of(first_step=10, peak_flops=peak)
  steps(meter, clock, 2, seconds=0.5)
  figures = meter.lap(12, 2e12)
  assert figures["images_per_second"] == 64
  assert figures["images_per_second_per_device"] == 16
  assert figures["tflops_per_device"] == 2
  assert figures["data_wait_fraction"] == 0.5
  assert figures.get("mfu") == mfu
  assert meter.seconds_per_step() == 1


def test_a_step_under_way_is_no_step_of_the_lap(clock):
  # With a lap a step, each is reported once the next has been dispatched.
  meter, speeds = meter_of(), []
  for step in range(1, 5):
    steps(meter, clock, 1, seconds=0.5)
    if step > 1:
      speeds.append(meter.lap(step - 1, 1e12)["images_per_second"])
  clock.now += 1  # the last is waited for
  speeds.append(meter.lap(4, 1e12)["images_per_second"])
  assert speeds == [32, 64, 64, 64]  # the first includes its own dispatch


def test_pauses_and_what_compiles_are_left_out(clock):
  meter = meter_of()
  steps(meter, clock, 1, seconds=100)
  meter.leave_out(1)
  assert not meter.lap(1, 1e12)
  assert math.isnan(meter.seconds_per_step())
  steps(meter, clock, 2, seconds=0.5)
  meter.pause()
  clock.now += 1000  # a selection
  steps(meter, clock, 2, seconds=0.5)
  assert meter.lap(5, 1e12)["images_per_second"] == 64
  assert meter.seconds_per_step() == 1
