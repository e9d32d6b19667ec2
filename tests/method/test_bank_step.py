"""The bank that the step keeps: what is written, where, and that nothing else moves."""

import functools
from typing import NamedTuple

import jax
import numpy as np
import pytest
import tiny

from clim_jax import sharding
from clim_jax.method.bank_step import make_bank_replica_step, make_bank_train_step
from clim_jax.method.state import TrainState
from clim_jax.method.step import make_train_step
from clim_jax.models.resnet import feature_dim

FEATURES = feature_dim("resnet_small", 4)  # of the tiny encoder
PADDED = 56  # rows, for 1, 2, 4 and 8 devices; the last six are padding


def first_bank():
  rows = np.random.default_rng(7).normal(size=(PADDED, FEATURES)).astype(np.float32)
  return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Trained(NamedTuple):
  state: TrainState
  bank: np.ndarray
  shard_shape: tuple[int, ...]
  metrics: list[dict]  # of every step
  programs: int
  consumes: bool  # whether the bank given to the first step is gone


def train(setup: tiny.Setup, batches, devices: int = 1) -> Trained:
  mesh = sharding.make_mesh(jax.devices()[:devices])
  step = make_bank_train_step(mesh, make_bank_replica_step(setup.embedding_step))
  first = bank = sharding.put_rows(mesh, first_bank())
  state, _ = tiny.put(mesh, setup.state, batches[0])
  history = []
  for batch in batches:
    state, bank, metrics = step(state, bank, sharding.put_rows(mesh, batch))
    history.append(metrics)
  shard_shape = bank.sharding.shard_shape(bank.shape)
  host = jax.device_get((state, bank))
  return Trained(*host, shard_shape, history, step._cache_size(), first.is_deleted())


BATCHES = [tiny.random_batch(seed=seed) for seed in range(3)]


@functools.cache
def trained(devices):
  """Three steps with all there is to a step; what they compile is shared."""
  return train(tiny.setup(devices=devices), BATCHES, devices)


@functools.cache
def written_out():
  """The bank after one step without augmentation, by the encoder alone."""
  setup, batch = tiny.setup(policy=tiny.PLAIN_POLICY), BATCHES[0]
  # The key encoder is the query encoder at first, so its average is too.
  out, _ = setup.encoder.apply(
    {"params": setup.state.key_params, "batch_stats": setup.state.key_stats},
    batch.key.astype(np.float32) / 255,
    train=True,
    mutable=["batch_stats"],
  )
  features = np.asarray(out.features, np.float64)
  expected = first_bank()
  expected[batch.key_ids] = features / np.linalg.norm(features, axis=1, keepdims=True)
  return expected


def assert_written_out(bank):
  seen = np.isin(np.arange(PADDED), BATCHES[0].key_ids)
  # Sums are taken in another order: float32 rounding.
  np.testing.assert_allclose(bank[seen], written_out()[seen], atol=1e-5)
  np.testing.assert_array_equal(bank[~seen], first_bank()[~seen])


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_the_anchors_rows_are_the_key_encoders_features_and_no_other_changes(devices):
  # With positives, which have keys as well: these must not be written.
  setup = tiny.setup(devices=devices, policy=tiny.PLAIN_POLICY, mixture="direct")
  after = train(setup, BATCHES[:1], devices)
  assert_written_out(after.bank)
  assert after.shard_shape == (PADDED // devices, FEATURES)


@pytest.mark.parametrize("changes", [{"symmetric": True}, {"accumulate_steps": 2}])
def test_a_symmetric_loss_or_parts_of_a_batch_write_the_same_rows(changes):
  setup = tiny.setup(policy=tiny.PLAIN_POLICY, **changes)
  setup = setup._replace(state=tiny.with_queue(setup.state, 2 * tiny.BATCH))
  moco = BATCHES[0]._replace(positive_query=(), positive_key=None)
  assert_written_out(train(setup, [moco]).bank)


@pytest.mark.parametrize("devices", [2, 4])
def test_the_bank_does_not_depend_on_the_number_of_devices(devices):
  assert not np.array_equal(trained(1).bank, first_bank())
  # Sums over rows in another order, amplified by three steps of training.
  np.testing.assert_allclose(trained(devices).bank, trained(1).bank, atol=1e-5)


@pytest.mark.parametrize("devices", [1, 4])
def test_keeping_the_bank_changes_no_bit_of_the_training(devices):
  setup = tiny.setup(devices=devices)
  mesh = sharding.make_mesh(jax.devices()[:devices])
  step, state = make_train_step(mesh, setup.replica_step), setup.state
  for batch, metrics in zip(BATCHES, trained(devices).metrics, strict=True):
    state, expected = step(*tiny.put(mesh, state, batch))
    assert jax.device_get(metrics) == jax.device_get(expected)
  pairs = zip(
    jax.tree.leaves(trained(devices).state), jax.tree.leaves(state), strict=True
  )
  for actual, expected in pairs:
    np.testing.assert_array_equal(actual, expected)


def test_the_step_compiles_once_and_consumes_the_bank():
  assert trained(2).programs == 1
  assert trained(2).consumes
