import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clim_jax import sharding
from clim_jax.probes.heads import SharedRows


def _mesh_of(platform):
  device = types.SimpleNamespace(platform=platform)
  return types.SimpleNamespace(devices=types.SimpleNamespace(flat=[device]))


@pytest.mark.slow  # reads the program as one jaxlib compiles it
def test_on_a_cpu_ynn_gets_products_and_nothing_else():
  def text(function, *arrays):
    options = sharding.convolution_options(_mesh_of("cpu"))
    return (
      jax.jit(function, compiler_options=options).lower(*arrays).compile().as_text()
    )

  def convolved(x, kernel):
    return jax.lax.conv(x, kernel, (1, 1), "SAME")

  # The kind of the fusion: the bare word is in the text anyhow, in this test's name.
  assert "__ynn_fusion" in text(lambda x: x @ x, jnp.ones((512, 512)))
  assert "__ynn_fusion" not in text(lambda x: (x * 2).sum(0), jnp.ones((4096, 512)))
  images, kernel = jnp.ones((8, 64, 16, 16)), jnp.ones((64, 64, 3, 3))
  assert "__ynn_fusion" not in text(convolved, images, kernel)


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_accelerators_are_compiled_for_as_xla_does(platform):
  assert sharding.convolution_options(_mesh_of(platform)) is None


def test_an_option_that_xla_does_not_know_is_not_given():
  assert not sharding._is_known((("xla_cpu_no_such_option", ""),))


def _mean_of(tree, platform=None):
  mesh = sharding.make_mesh()
  mapped = sharding.spmd(
    lambda tree: sharding.mean(jax.tree.map(lambda leaf: leaf[0], tree)),
    mesh,
    in_specs=sharding.ROWS,
    out_specs=sharding.REPLICATED,
  )
  if platform is None:
    return mapped(tree)
  return mapped.trace(tree).lower(lowering_platforms=(platform,)).as_text()


def _replicas_tree():
  rng = np.random.default_rng(0)
  shapes = {"kernel": (3, 2), "scale": (4,), "more": [(), (1, 2, 3)]}
  return jax.tree.map(
    lambda shape: rng.normal(size=(jax.device_count(), *shape)).astype(np.float32),
    shapes,
    is_leaf=lambda node: isinstance(node, tuple),
  )


def test_the_mean_is_that_of_each_leaf():
  tree = _replicas_tree()
  found, expected = _mean_of(tree), jax.tree.map(lambda leaf: leaf.mean(axis=0), tree)
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for one, two in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
    assert one.shape == two.shape
    np.testing.assert_allclose(one, two, atol=1e-6)


@pytest.mark.parametrize(("platform", "times"), [("cpu", 1), ("tpu", 4)])
def test_replicas_on_a_cpu_meet_once_for_a_mean(platform, times):
  assert _mean_of(_replicas_tree(), platform).count("stablehlo.all_reduce") == times


# By process and not by id, as the devices of v4:2x2x2 and v5e:4x4 come from JAX's mesh.
INTERLEAVED = {
  "in turn": [0, 1, 2, 3, 0, 1, 2, 3],
  "in blocks": [0, 0, 1, 1, 1, 1, 0, 0],
  "unequal": [2, 0, 1, 0, 0],
}


@dataclasses.dataclass(frozen=True)
class Device:
  process_index: int
  id: int


def _mesh_of_processes(owners, *, is_sorted=True):
  devices = [Device(process, i) for i, process in enumerate(owners)]
  if is_sorted:
    return sharding.make_mesh(devices)
  return jax.sharding.Mesh(np.array(devices), (sharding.AXIS,))


def _as_process(monkeypatch, process):
  monkeypatch.setattr(jax, "process_index", lambda: process)


@pytest.mark.parametrize("owners", INTERLEAVED.values(), ids=INTERLEAVED.keys())
def test_processes_share_out_the_rows_however_their_devices_come(owners, monkeypatch):
  mesh, rows = _mesh_of_processes(owners), np.arange(3 * len(owners))
  seen = []
  for process in range(max(owners) + 1):
    _as_process(monkeypatch, process)
    mine = rows[sharding.process_rows(mesh, len(rows))]
    assert len(mine) == 3 * owners.count(process)
    seen.extend(mine)
  assert seen == list(rows)


def test_rows_of_a_mesh_that_mixes_processes_are_refused(monkeypatch):
  mesh = _mesh_of_processes([0, 1, 0, 1], is_sorted=False)
  _as_process(monkeypatch, 1)
  with pytest.raises(ValueError, match=r"\[0, 1, 0, 1\].*process 1.*make_mesh"):
    sharding.process_rows(mesh, 8)


def test_a_process_without_a_device_of_the_mesh_has_no_rows(monkeypatch):
  _as_process(monkeypatch, 2)
  with pytest.raises(ValueError, match="process 2"):
    sharding.process_rows(_mesh_of_processes([0, 1]), 8)


def test_rows_that_devices_cannot_share_evenly_are_refused():
  with pytest.raises(ValueError, match="9 rows must divide by 8 devices"):
    sharding.process_rows(sharding.make_mesh(), 9)


def test_a_process_that_holds_nothing_but_filling_fills_all_its_rows(monkeypatch):
  # 9 rows on 8 devices are filled up to 16: the last of 4 processes holds filling only.
  mesh = _mesh_of_processes([0, 0, 1, 1, 2, 2, 3, 3])
  monkeypatch.setattr(sharding, "put_rows", lambda mesh, rows: rows)
  features, labels = np.arange(18.0).reshape(9, 2), np.arange(9)
  parts = []
  for process in range(4):
    _as_process(monkeypatch, process)
    parts.append(SharedRows.put(mesh, features, labels))
  assert [len(part.labels) for part in parts] == [4, 4, 4, 4]
  for name, rows in (("features", features), ("labels", labels)):
    shared = np.concatenate([getattr(part, name) for part in parts])
    np.testing.assert_array_equal(shared[:9], rows)
