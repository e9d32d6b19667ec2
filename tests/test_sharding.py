import types

import jax
import jax.numpy as jnp
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
