import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clim_jax import sharding


def _mesh_of(platform):
  device = types.SimpleNamespace(platform=platform)
  return types.SimpleNamespace(devices=types.SimpleNamespace(flat=[device]))


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
