"""Counts of FLOP against counts by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from clim_jax import sharding
from clim_jax.pretrain.flops import count_flops

BATCH, SIDE = 4, 16
# (pixels of a side, kernel's side, channels in, channels out) of a forward pass.
LAYERS = ((16, 3, 3, 8), (8, 3, 8, 12), (8, 1, 12, 20))


class Net(nn.Module):
  """Three convolutions, the second of stride 2, and a product."""

  @nn.compact
  def __call__(self, images):
    strides = (1, 2, 1)
    for (_, side, _, channels), stride in zip(LAYERS, strides, strict=True):
      images = nn.Conv(channels, (side, side), stride, use_bias=False)(images)
    return nn.Dense(5)(images.mean(axis=(1, 2)))


def by_hand():
  """FLOP of each layer's forward pass."""
  convolutions = [
    2 * BATCH * pixels**2 * side**2 * inputs * outputs
    for pixels, side, inputs, outputs in LAYERS
  ]
  return [*convolutions, 2 * BATCH * 20 * 5]


def flops(function, *arguments):
  return count_flops(jax.jit(function).trace(*arguments).jaxpr.jaxpr)


@pytest.fixture
def net():
  images = jnp.ones((BATCH, SIDE, SIDE, 3))
  return Net().init(jax.random.key(0), images), images


def loss(params, images):
  return Net().apply(params, images).sum()


def test_a_forward_pass_has_the_flop_of_its_layers(net):
  assert flops(loss, *net) == sum(by_hand())


def test_a_backward_pass_has_twice_those_but_for_the_gradient_of_the_images(net):
  first = by_hand()[0]
  assert flops(jax.grad(loss), *net) == 3 * sum(by_hand()) - first
  both = jax.grad(loss, argnums=(0, 1))
  assert flops(both, *net) == 3 * sum(by_hand())


def test_what_is_computed_again_counts_again(net):
  again = jax.grad(jax.checkpoint(loss))
  # JAX leaves out of the second forward pass what nobody reads: the last product.
  assert flops(again, *net) == 4 * sum(by_hand()) - by_hand()[0] - by_hand()[-1]


def test_the_parts_of_a_loop_count_each(net):
  def accumulated(params, images):
    return jax.lax.map(lambda part: loss(params, part), images.reshape(2, 2, 16, 16, 3))

  assert flops(accumulated, *net) == sum(by_hand())


def test_of_branches_the_dearest_counts():
  x = jnp.ones((8, 8))
  branches = [lambda x: x, lambda x: x @ x, lambda x: x @ x @ x]
  found = flops(lambda i, x: jax.lax.switch(i, branches, x), 1, x)
  assert found == 2 * 2 * 8**3


def test_the_count_is_that_of_one_device():
  mesh = sharding.make_mesh()
  mapped = sharding.spmd(
    lambda x, y: x @ y,
    mesh,
    in_specs=(sharding.ROWS, sharding.REPLICATED),
    out_specs=sharding.ROWS,
  )
  x, y = jnp.ones((16, 8)), jnp.ones((8, 4))
  program = mapped.trace(x, y).jaxpr.jaxpr
  assert count_flops(program) == 2 * 16 * 8 * 4 // jax.device_count()
