import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clim_jax.method import key_queue

SIZE, DIM = 10, 3


@pytest.mark.parametrize("batch", [1, 3, 4, 5, 10])
def test_the_queue_holds_what_a_deque_holds(batch):
  # Batches of 3 and 4 do not divide 10 and wrap around inside a batch.
  queue = key_queue.init(jax.random.key(0), SIZE, DIM)
  oracle = collections.deque(np.asarray(queue.keys), maxlen=SIZE)
  enqueue = jax.jit(key_queue.enqueue)
  rng = np.random.default_rng(0)
  for _ in range(2 * SIZE // batch + 2):
    keys = rng.normal(size=(batch, DIM)).astype(np.float32)
    queue = enqueue(queue, keys)
    oracle.extend(keys)
    oldest_first = np.roll(np.asarray(queue.keys), -int(queue.position), axis=0)
    np.testing.assert_array_equal(oldest_first, np.stack(oracle))


def test_the_position_stays_in_the_queue():
  queue = key_queue.init(jax.random.key(0), SIZE, DIM)
  for step in range(1, 9):
    queue = key_queue.enqueue(queue, jnp.ones((7, DIM)))
    assert queue.position == 7 * step % SIZE
    assert queue.position.dtype == jnp.int32  # so that a step compiles only once


def test_first_keys_are_unit_vectors_in_every_direction():
  keys = np.asarray(key_queue.init(jax.random.key(0), 2000, DIM).keys)
  np.testing.assert_allclose(np.linalg.norm(keys, axis=1), 1, atol=1e-6)
  # The mean of 2000 has components of standard deviation √(1/3/2000) ≈ 0.013.
  np.testing.assert_allclose(keys.mean(axis=0), 0, atol=0.065)
  np.testing.assert_allclose(keys.T @ keys / 2000, np.eye(DIM) / 3, atol=0.05)
