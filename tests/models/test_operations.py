"""The operations of each platform compute the same network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clim_jax.models.encoder import Encoder
from clim_jax.models.operations import BY_XLA, FOR_CPU, FOR_GPU, operations_for


def _encoder(operations):
  return Encoder(
    backbone="resnet_small",
    stem="imagenet",
    width=4,
    hidden_dim=8,
    embedding_dim=4,
    groups=2,
    pixel_mean=(0.5,) * 3,
    pixel_std=(0.2,) * 3,
    operations=operations,
    dtype=jnp.float32,
  )


_init = functools.partial(_encoder(BY_XLA).init, train=False)


def _gradient(operations, variables, images):
  def loss(params):
    out, stats = _encoder(operations).apply(
      variables | {"params": params}, images, train=True, mutable=["batch_stats"]
    )
    return out.embedding[:, 0].sum(), (out, stats)

  return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])


def test_a_platform_has_operations_of_its_own():
  for name, operations in (("cpu", FOR_CPU), ("gpu", FOR_GPU), ("tpu", BY_XLA)):
    assert operations_for(name) == operations
  assert all(a is not b for a, b in zip(BY_XLA, FOR_CPU, strict=True))


@pytest.mark.parametrize(("operations", "scatters"), [(BY_XLA, True), (FOR_GPU, False)])
def test_on_a_gpu_no_gradient_is_scattered(operations, scatters):
  images = jnp.zeros((4, 16, 16, 3))
  variables = jax.eval_shape(_init, jax.random.key(0), images)
  traced = jax.jit(lambda v: _gradient(operations, v, images)).trace(variables)
  text = traced.lower(lowering_platforms=("cuda",)).as_text()
  assert ("scatter" in text) == scatters


def test_a_network_its_gradient_and_statistics_are_the_same_by_all():
  images = np.float32(np.random.default_rng(0).uniform(size=(16, 32, 32, 3)))
  variables = jax.jit(_init)(jax.random.key(0), images)
  by_xla = _gradient(BY_XLA, variables, images)
  for_cpu = _gradient(FOR_CPU, variables, images)
  for found, expected in zip(*map(jax.tree.leaves, (for_cpu, by_xla)), strict=True):
    scale = max(np.abs(expected).max(), 1.0)
    np.testing.assert_allclose(found, expected, atol=2e-4 * scale)


@pytest.mark.parametrize(
  "operations", [BY_XLA, FOR_CPU, FOR_GPU], ids=["xla", "cpu", "gpu"]
)
def test_no_program_carries_the_branches_of_other_platforms(operations):
  images = jnp.zeros((4, 16, 16, 3))
  variables = jax.eval_shape(_init, jax.random.key(0), images)
  jaxpr = jax.make_jaxpr(lambda v: _gradient(operations, v, images))(variables)
  assert "platform_index" not in str(jaxpr)
