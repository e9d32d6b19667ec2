"""What a refresh found, there and back."""

import numpy as np

from clim_jax.selection import record
from clim_jax.selection.refresh import RowsOnHost

NOTHING = RowsOnHost(None, None, None, None)


def rows(num_images, seed=0):
  rng = np.random.default_rng(seed)
  shape = (num_images, 3)
  return RowsOnHost(
    rng.integers(0, num_images, shape, dtype=np.int32),
    rng.random(shape) < 0.5,
    rng.integers(0, 4, num_images, dtype=np.int32),
    rng.random(num_images, np.float32),
  )


def test_a_record_comes_back_as_it_was_saved(tmp_path):
  for found in (rows(20), NOTHING, rows(20)._replace(neighbours=None, kept=None)):
    made = record.make_record(7, found, num_images=20)
    record.save(made, tmp_path / record.FILE)
    for saved, loaded in zip(made, record.load(tmp_path / record.FILE), strict=True):
      np.testing.assert_array_equal(saved, loaded)
      assert saved.dtype == loaded.dtype


def test_of_many_images_some_anchors_are_kept_and_always_the_same(monkeypatch):
  monkeypatch.setattr(record, "_AT_MOST", 10)
  first, second = (
    record.make_record(epoch, rows(1000, seed=epoch), num_images=1000)
    for epoch in (1, 2)
  )
  assert len(first.anchors) == 10
  np.testing.assert_array_equal(first.anchors, second.anchors)
  np.testing.assert_array_equal(
    first.neighbours, rows(1000, seed=1).neighbours[first.anchors]
  )
  assert len(first.assignment) == 1000


def test_a_damaged_record_is_none(tmp_path):
  path = tmp_path / record.FILE
  assert record.load(path) is None
  record.save(record.make_record(1, rows(20), num_images=20), path)
  path.write_bytes(path.read_bytes()[:-100])
  assert record.load(path) is None
