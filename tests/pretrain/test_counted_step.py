"""What a step costs and how fast it goes, against counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clim_jax.pretrain import meter as meter_module
from clim_jax.pretrain.counted_step import CountedStep, peak_flops
from clim_jax.pretrain.meter import Meter


def test_a_product_of_matrices_has_two_flop_a_multiplication():
  step = CountedStep(jax.jit(lambda x, y: x @ y))
  x, y = jnp.ones((16, 32)), jnp.ones((32, 8))
  np.testing.assert_array_equal(step(x, y), x @ y)
  assert step.flops == pytest.approx(2 * 16 * 32 * 8, rel=0.01)


def test_each_structure_is_compiled_once_and_has_its_own_count():
  traced = []

  def double(pair):
    traced.append(None)
    return sum(x @ x for x in pair if x is not None)

  step, x = CountedStep(jax.jit(double)), jnp.ones((8, 8))
  counts = []
  for pair in ((x, None), (x, x), (x, None), (x, x)):
    step(pair)
    counts.append(step.flops)
  assert len(traced) == 2
  assert counts[:2] == counts[2:]
  assert counts[1] > 1.9 * counts[0]


@pytest.mark.parametrize(
  ("kind", "teraflops"),
  [("TPU v5 lite", 197), ("TPU v5p", 459), ("NVIDIA H100 80GB HBM3", 989)],
)
def test_a_chip_is_known_by_how_its_name_begins(kind, teraflops):
  assert peak_flops(kind) == teraflops * 1e12


def test_an_unknown_device_has_no_peak():
  assert peak_flops("cpu") is None


@pytest.mark.parametrize(("peak", "mfu"), [(8e12, 0.25), (None, None)])
def test_speed_is_counted_a_device(peak, mfu, monkeypatch):
  # The clock is read when a batch is asked for, when it is there, and at the lap.
  clock = iter([0.0, 0.5, 0.5, 0.5, 2.0])
  monkeypatch.setattr(meter_module.time, "perf_counter", lambda: next(clock))
  meter = Meter(64, num_devices=4, peak_flops=peak)
  batches = iter(range(2))
  meter.wait(batches)
  meter.wait(batches)
  figures = meter.lap(2e12)
  assert figures["images_per_second"] == 64
  assert figures["images_per_second_per_device"] == 16
  assert figures["tflops_per_device"] == 2
  assert figures["data_wait_fraction"] == 0.25
  assert figures.get("mfu") == mfu


def test_where_flop_cannot_be_told_no_figure_is_made_of_them():
  meter = Meter(64, num_devices=1, peak_flops=1e12)
  meter.wait(iter([0]))
  assert not {"mfu", "tflops_per_device"} & set(meter.lap(None))
