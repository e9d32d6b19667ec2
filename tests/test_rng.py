import jax
import numpy as np

from clim_jax import rng

ROOT = jax.random.key(0)


def _draws(rngs):
  return np.asarray(jax.vmap(lambda r: jax.random.normal(r, (3,)))(rngs))


def test_streams_differ_by_name_and_by_root():
  names = ["init", "queue", "step", "query0", "query1", "mixture0", "mixture1"]
  roots = [ROOT, jax.random.key(1)]
  draws = {
    tuple(np.asarray(jax.random.key_data(rng.stream(root, name))).tolist())
    for root in roots
    for name in names
  }
  assert len(draws) == len(roots) * len(names)


def test_a_stream_is_the_same_every_time_and_under_jit():
  # Python's own hash of a string would differ from process to process.
  expected = jax.random.fold_in(ROOT, 0xCBF43926)  # CRC-32's published check value
  for stream in (rng.stream, jax.jit(rng.stream, static_argnums=1)):
    assert stream(ROOT, "123456789") == expected


def test_a_row_draws_the_same_in_any_split_of_the_batch():
  whole = _draws(rng.per_row(ROOT, np.arange(8)))
  parts = [_draws(rng.per_row(ROOT, rows)) for rows in np.split(np.arange(8), 4)]
  np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_rows_draw_different_numbers():
  draws = _draws(rng.per_row(ROOT, np.arange(100)))
  assert len(np.unique(draws)) == draws.size
