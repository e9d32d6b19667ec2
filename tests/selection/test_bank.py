import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sharded

from clim_jax.selection.bank import BankBuilder

SIDE, DIM = 2, 4


def _images(count):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8)


def _weights(seed):
  # Small integers: every product and sum is exact in float32.
  rng = np.random.default_rng(seed)
  return rng.integers(-8, 9, (SIDE * SIDE * 3, DIM)).astype(np.float32)


def _embed(weights, images):
  flat = images.reshape(len(images), -1).astype(jnp.float32)
  return jnp.dot(flat, weights, precision=jax.lax.Precision.HIGHEST)


def _builder(devices, count, batch, embed=_embed):
  mesh = sharded.mesh(devices)
  return BankBuilder(mesh, embed, num_images=count, dim=DIM, batch_size=batch)


# 21 images divide neither by 8 devices nor by a batch; 3 leave devices without any.
@pytest.mark.parametrize("count", [1, 3, 21, 32])
@pytest.mark.parametrize(("devices", "batch"), [(1, 1), (1, 4), (1, 64), (8, 8)])
def test_row_i_is_image_i(devices, batch, count):
  images, weights = _images(count), _weights(0)
  builder = _builder(devices, count, batch)
  bank = builder(weights, (images[ids] for ids in builder.image_ids()))
  expected = images.reshape(count, -1).astype(int) @ weights.astype(int)
  np.testing.assert_array_equal(np.asarray(bank)[:count], expected)
  assert len(bank.sharding.device_set) == devices
  assert len(bank) < count + devices * -(-count // batch)  # padding stays small


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_a_turn_is_no_more_than_a_batch_and_every_image_comes(devices):
  ids = _builder(devices, 1003, 16).image_ids()
  assert ids.shape[1] <= 16
  assert set(ids.ravel()) == set(range(1003))


def test_two_fills_compile_once():
  traces = []

  def embed(weights, images):
    traces.append(images.shape)
    return _embed(weights, images)

  images, builder = _images(21), _builder(8, 21, 8, embed)
  banks = [
    builder(_weights(seed), (images[ids] for ids in builder.image_ids()))
    for seed in (0, 1)
  ]
  assert traces == [(1, SIDE, SIDE, 3)]  # one image a device
  assert not np.array_equal(*map(np.asarray, banks))  # the second fill saw its weights
