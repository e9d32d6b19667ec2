"""The batches as a function of seed and step alone."""

import numpy as np
from scipy import stats

from clim_jax.data.index_stream import IndexStream
from clim_jax.selection.positives import Positives

STREAM = IndexStream(seed=3, num_images=23, batch_size=5, num_crops=4)


def full_table(images, count=4):
  """Positives of image i are i + 1 … i + count."""
  ids = (np.arange(images)[:, None] + np.arange(1, count + 1)) % images
  start = np.arange(images, dtype=np.int64) * count
  return Positives(
    ids.ravel().astype(np.int32), start, np.full(images, count, np.int32)
  )


def test_a_step_is_the_same_whenever_it_is_asked_for():
  later = IndexStream(*STREAM).step(7, None)
  for step in range(8):
    first = STREAM.step(step, None)
  for a, b in zip(first, later, strict=True):
    np.testing.assert_array_equal(a, b)


def test_an_epoch_shows_no_image_twice_and_epochs_differ():
  steps = STREAM.steps_per_epoch
  assert steps == 4
  epochs = [
    np.concatenate([STREAM.step(e * steps + s, None).anchors for s in range(steps)])
    for e in range(3)
  ]
  assert all(len(set(epoch)) == steps * 5 for epoch in epochs)
  assert not np.array_equal(epochs[0], epochs[1])


def test_another_seed_gives_another_order():
  other = STREAM._replace(seed=4)
  assert not np.array_equal(STREAM.step(0, None).anchors, other.step(0, None).anchors)


def test_positives_change_neither_anchors_nor_crops_nor_key_order():
  without, with_ = STREAM.step(2, None), STREAM.step(2, full_table(23))
  np.testing.assert_array_equal(without.anchors, with_.anchors)
  np.testing.assert_array_equal(without.uniforms, with_.uniforms)
  np.testing.assert_array_equal(without.key_order, with_.key_order)
  np.testing.assert_array_equal(without.positives, without.anchors)
  assert not without.has_positive.any()
  assert with_.has_positive.all()


def test_positives_are_drawn_anew_and_uniformly_at_each_visit():
  table = full_table(23)
  draws = []
  for step in range(600):
    indices = STREAM.step(step, table)
    draws.append((indices.positives - indices.anchors) % 23 - 1)
  counts = np.bincount(np.concatenate(draws), minlength=4)
  assert len(counts) == 4
  assert stats.chisquare(counts).pvalue > 1e-3


def test_key_order_is_a_permutation_that_changes():
  orders = [STREAM.step(step, None).key_order for step in range(6)]
  assert all(sorted(order) == list(range(5)) for order in orders)
  assert len({tuple(order) for order in orders}) > 1


def test_uniforms_lie_in_the_unit_interval_and_differ_by_row_crop_and_step():
  numbers = np.stack([STREAM.step(step, None).uniforms for step in range(20)])
  assert numbers.min() >= 0
  assert numbers.max() < 1
  assert len(np.unique(numbers)) > 0.99 * numbers.size
