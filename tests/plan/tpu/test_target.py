"""Plans for TPUs that are not there."""

import importlib.util
import json
import types

import jax
import pytest
from small_run import small

import clim_jax
from clim_jax import launch
from clim_jax.configs import smoke
from clim_jax.plan import stopwatch
from clim_jax.plan.forecast import CannotFit
from clim_jax.plan.tpu import chips, cost, target

TARGET = "tpu:v5e:2x4"
_ROW = 8 * 128 * 4  # bytes of f32[8,128]


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
  monkeypatch.setattr(stopwatch, "_SECONDS", 0.0)


def planned(config, workdir, **request):
  launch.run(config, "plan", workdir, launch.Request(target=TARGET, **request))
  return json.loads((workdir / "plan.json").read_text())


@pytest.mark.parametrize(
  ("flops", "bandwidth", "seconds"),
  [(8.0, 2 * _ROW, 4.0), (1.0, 2 * _ROW, 1.0), (1.0, _ROW / 2, 4.0)],
)
def test_a_step_takes_as_long_as_the_slower_of_its_flop_and_its_bytes(
  flops, bandwidth, seconds
):
  text = """ENTRY %main (p: f32[8,128]) -> f32[8,128] {
  %p = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %n = f32[8,128]{1,0:T(8,128)} negate(%p)
}
"""
  program = types.SimpleNamespace(as_text=lambda: text)
  step = types.SimpleNamespace(program=program, flops=flops)
  chip = chips.Chip(flops=2.0, bandwidth=bandwidth, memory=0.0)
  assert target._roofline(step, chip) == pytest.approx(seconds)


def test_without_libtpu_there_is_one_sentence(arrays, tmp_path, monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
  with pytest.raises(clim_jax.ConfigError, match=r"pip install 'libtpu") as refusal:
    planned(small("base", arrays), tmp_path)
  assert "\n" not in str(refusal.value)


def test_what_the_compiler_refuses_is_a_fault_with_its_words(
  arrays, tmp_path, monkeypatch
):
  pytest.importorskip("libtpu", reason="libtpu is for Linux on x86-64 only")

  def refuse(_):
    told = "RESOURCE_EXHAUSTED: Ran out of memory\nUsed 20.5G of 15.75G hbm. Exceeded"
    raise jax.errors.JaxRuntimeError(told)

  monkeypatch.setattr(target, "_compile", refuse)
  config = small("base", arrays)
  with pytest.raises(CannotFit, match=r"Used 20\.5G of 15\.75G hbm.* batch_size=16"):
    planned(config, tmp_path / "run")
  found = json.loads((tmp_path / "run" / "plan.json").read_text())
  assert (found["fits"], found["memory"], found["seconds"]) == (False, None, None)


@pytest.mark.slow
@pytest.mark.usefixtures("no_kept_programs")
def test_a_target_has_the_figures_of_the_compile_benchmark(tmp_path):
  pytest.importorskip("libtpu", reason="libtpu is for Linux on x86-64 only")
  from benchmarks import tpu_programs

  config = smoke.get_config()
  found = planned(config, tmp_path / "run", price_per_hour=9.6)
  mesh = chips.topology_mesh("v5e:2x4")
  lowered = tpu_programs.lower_step(
    config, mesh, config.batch_size // mesh.devices.size
  )
  compiled = chips.compile_readably(lowered, mesh)
  told, chip = cost.cost_of(compiled), chips.chip_of(mesh)
  assert found["memory"]["peak"] == pytest.approx(cost.memory_bytes(compiled), rel=0.02)
  least = max(told.flops / chip.flops, told.hbm_bytes / chip.bandwidth)
  assert found["seconds"]["mixed_step"] == pytest.approx(least, rel=0.1)
  hours = found["seconds"]["total"] / 3600
  assert found["price"] == pytest.approx(9.6 * hours)
  assert any("2 hosts must read" in note for note in found["notes"])
  assert found["fits"]
