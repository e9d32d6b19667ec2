"""Every program of a run compiles for TPU, on a machine that has none."""

import re

import jax
import pytest
from jax.sharding import NamedSharding

pytest.importorskip("libtpu", reason="libtpu is for Linux on x86-64 only")

from benchmarks import tpu_programs
from clim_jax import sharding
from clim_jax.augment import kernel
from clim_jax.configs import smoke
from clim_jax.configs.pods import v4_32, v5e_64
from clim_jax.plan import programs
from clim_jax.plan.tpu import chips, cost
from clim_jax.selection.search.scoring import SCORINGS

_SEVERAL_HOSTS = (
  *("v4:2x2x2", "v4:2x2x4", "v5e:2x4", "v5e:4x4", "v5e:8x8", "v5p:2x2x4"),
  *("v6e:2x4", "v6e:4x4", "tpu7x:2x2x2", "tpu7x:2x2x4"),
)


@pytest.mark.parametrize("topology", _SEVERAL_HOSTS)
def test_every_host_is_given_the_rows_that_its_devices_hold(topology, monkeypatch):
  mesh = chips.topology_mesh(topology)
  shape = (4 * mesh.devices.size, 3)
  held = {}  # by process, as JAX places a row-sharded array
  rows_of = NamedSharding(mesh, sharding.ROWS).devices_indices_map(shape)
  for device, (rows, _) in rows_of.items():
    held.setdefault(device.process_index, set()).update(range(shape[0])[rows])
  assert len(held) > 1
  for process, rows in held.items():
    monkeypatch.setattr(jax, "process_index", lambda process=process: process)
    mine = sharding.process_rows(mesh, shape[0])
    assert set(range(shape[0])[mine]) == rows


pytestmark = pytest.mark.usefixtures("no_kept_programs")


@pytest.fixture(scope="module")
def mesh():
  return chips.topology_mesh("v5e:2x2")


_AT_NIGHT = pytest.mark.slow


def _others_at_night(first, *others):
  """Of each kind of program one compiles at every run."""
  return [first, *(pytest.param(other, marks=_AT_NIGHT) for other in others)]


@pytest.mark.parametrize("rule", _others_at_night("center_wise", "none"))
def test_the_train_step_compiles_in_bfloat16(mesh, rule):
  config = smoke.get_config()
  config.selection.rule = rule
  config.views.sides, config.views.min_scales = (16, 8), (0.2, 0.2)
  config.views.max_scales = (1.0, 1.0)
  compiled = tpu_programs.lower_step(config, mesh, 4).compile()
  assert "tpu_custom_call" in compiled.as_text()  # the kernel that augments
  convolutions = [x for x in compiled.as_text().split("\n") if " convolution(" in x]
  assert any("bf16[" in line for line in convolutions)
  told = cost.cost_of(compiled)
  assert told.flops > 0
  # Parameters, activations and the batch; all of a tiny step may stay on the chip.
  assert 0 < told.hbm_bytes < told.bytes_accessed
  # Gradients are summed over devices: at least the parameters' bytes.
  assert told.collective_bytes > 0


@pytest.mark.slow
@pytest.mark.parametrize(
  ("module", "topology"), [(v4_32, "v4:2x2x4"), (v5e_64, "v5e:8x8")]
)
def test_the_step_of_a_pod_fits_its_chips(module, topology):
  config, mesh = module.get_config(), chips.topology_mesh(topology)
  batch = config.batch_size // mesh.devices.size
  lowered = tpu_programs.lower_step(config, mesh, batch)
  compiled = chips.compile_readably(lowered, mesh)
  chip = chips.chip_of(mesh)
  assert cost.memory_bytes(compiled) < chip.memory


@_AT_NIGHT
def test_what_a_step_costs_can_be_read_for_the_newest_chip():
  mesh = chips.topology_mesh(chips.TOPOLOGIES[-1])
  lowered = tpu_programs.lower_step(smoke.get_config(), mesh, 4)
  told = cost.cost_of(chips.compile_readably(lowered, mesh))
  assert min(told.flops, told.hbm_bytes, told.collective_bytes) > 0


@pytest.mark.slow
@pytest.mark.parametrize("scoring", SCORINGS)
def test_the_ring_of_the_neighbour_search_compiles(mesh, scoring):
  search = programs.lower_neighbours(
    mesh, images=4000, dim=64, num_neighbours=10, scoring=scoring
  )
  assert "collective-permute" in search.compile().as_text()


@_AT_NIGHT
def test_k_means_compiles(mesh):
  compiled = programs.lower_kmeans(
    mesh, images=4000, dim=64, num_centers=20, iterations=3
  ).compile()
  assert cost.cost_of(compiled).collective_bytes > 0


@pytest.mark.parametrize(
  "topology", _others_at_night("v2:2x2x1", "v3:2x2x1", *chips.TOPOLOGIES)
)
def test_augmentation_is_one_kernel_on_every_generation(topology):
  mesh = chips.topology_mesh(topology)
  augmented = tpu_programs.lower_augmentation(mesh, batch_per_chip=2, side=224)
  text = chips.compile_readably(augmented, mesh).as_text()
  assert len(re.findall('custom_call_target="tpu_custom_call"', text)) == 1
  assert "while(" not in text  # as the ops' turns are


@_AT_NIGHT
@pytest.mark.parametrize("side", [8, 50])
def test_the_kernel_of_augmentation_compiles_for_any_side(mesh, side):
  lowered = tpu_programs.lower_augmentation(mesh, batch_per_chip=2, side=side)
  assert "tpu_custom_call" in lowered.compile().as_text()


@_AT_NIGHT
def test_the_largest_side_with_a_wide_blur_fits_the_oldest_chip():
  lowered = tpu_programs.lower_augmentation(
    chips.topology_mesh("v4:2x2x2"),
    batch_per_chip=2,
    side=kernel.LARGEST_SIDE,
    blur_sigma=(0.1, 200.0),
  )
  assert "tpu_custom_call" in lowered.compile().as_text()


@_AT_NIGHT
def test_debugging_at_the_highest_precision_compiles(mesh):
  with jax.default_matmul_precision("highest"):
    lowered = tpu_programs.lower_augmentation(mesh, batch_per_chip=2, side=32)
  assert "tpu_custom_call" in lowered.compile().as_text()


def _kernel_size(lowered):
  (body,) = re.findall(r"\\22body\\22: \\22([^\\]*)", lowered.as_text())
  return len(body)


@_AT_NIGHT
def test_what_augmentation_leaves_out_is_not_compiled(mesh):
  flips = dict(jitter_probability=0.0, blur_probability=0.0, blur_sigma=(0.0, 0.0))
  lowered = tpu_programs.lower_augmentation(mesh, batch_per_chip=2, side=32, **flips)
  everything = tpu_programs.lower_augmentation(mesh, batch_per_chip=2, side=32)
  no_hue = tpu_programs.lower_augmentation(mesh, batch_per_chip=2, side=32, hue=0.0)
  assert len(lowered.as_text()) < len(everything.as_text()) * 2 / 3
  assert _kernel_size(no_hue) < 0.95 * _kernel_size(everything)
  assert "tpu_custom_call" in lowered.compile().as_text()


@pytest.mark.parametrize(
  ("side", "implementation"), [(528, "auto"), (32, "xla")], ids=["too large", "asked"]
)
def test_augmentation_falls_back_to_operations(mesh, side, implementation):
  lowered = tpu_programs.lower_augmentation(
    mesh, batch_per_chip=2, side=side, implementation=implementation
  )
  assert "tpu_custom_call" not in lowered.as_text()
