import types

import jax
import jax.numpy as jnp
import pytest

from clim_jax import sharding


def _mesh_of(platform):
  device = types.SimpleNamespace(platform=platform)
  return types.SimpleNamespace(devices=types.SimpleNamespace(flat=[device]))


def test_options_of_a_cpu_keep_ynn_out_of_a_program():
  def total(x):
    return (x * 2).sum(axis=0)

  def text(options):
    jitted = jax.jit(total, compiler_options=options)
    return jitted.lower(jnp.ones((4096, 512))).compile().as_text()

  # The kind of the fusion: the bare word is in the text anyhow, in this test's name.
  assert "__ynn_fusion" not in text(sharding.convolution_options(_mesh_of("cpu")))


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_accelerators_are_compiled_for_as_xla_does(platform):
  assert sharding.convolution_options(_mesh_of(platform)) is None


def test_an_option_that_xla_does_not_know_is_not_given():
  assert not sharding._is_known((("xla_cpu_no_such_option", ""),))
