"""Batches of crops: order, hosts, sources, broken files."""

import images
import jax
import numpy as np
import pytest
import tensorflow as tf

from clim_jax.data import pipeline
from clim_jax.data.crops import CenterCrop, RandomCrop
from clim_jax.data.cuts import ViewPlan
from clim_jax.data.index_stream import IndexStream
from clim_jax.data.source import BadImageError
from clim_jax.data.sources import load_source
from clim_jax.selection.positives import Positives

IMAGES, BATCH = 20, 6
CROPS = (
  RandomCrop(8, (0.2, 1.0), (3 / 4, 4 / 3)),
  RandomCrop(5, (0.1, 0.6), (1.0, 1.0)),
)
PLAN = ViewPlan(CROPS, positive_queries=True)
STREAM = IndexStream(
  seed=1, num_images=IMAGES, batch_size=BATCH, num_crops=PLAN.num_crops
)
NEXT = Positives(  # the positive of image i is image i + 1; the last has none
  np.arange(1, IMAGES + 1, dtype=np.int32) % IMAGES,
  np.arange(IMAGES, dtype=np.int64),
  (np.arange(IMAGES) < IMAGES - 1).astype(np.int32),
)


def batches(source, *, positives=NEXT, rows=slice(0, BATCH), steps=4, plan=PLAN):
  return list(
    pipeline.train_batches(
      source,
      STREAM,
      plan,
      first_step=0,
      last_step=steps,
      positives=positives,
      rows=rows,
    )
  )


def levels(crops):
  """Ids of constant images."""
  assert (crops == crops[:, :1, :1, :1]).all()
  return crops[:, 0, 0, 0].astype(int)


def test_every_crop_shows_the_image_it_should():
  for step, batch in enumerate(batches(images.constant_source(IMAGES))):
    anchors = STREAM.step(step, NEXT).anchors
    positives = np.where(anchors < IMAGES - 1, anchors + 1, anchors)
    for crop, side in zip(batch.query, (8, 5), strict=True):
      assert crop.shape == (BATCH, side, side, 3)
      np.testing.assert_array_equal(levels(crop), anchors)
    for crop in batch.positive_query:
      np.testing.assert_array_equal(levels(crop), positives)
    np.testing.assert_array_equal(levels(batch.key)[batch.key_row], anchors)
    np.testing.assert_array_equal(levels(batch.positive_key)[batch.key_row], positives)
    np.testing.assert_array_equal(anchors[batch.query_row], levels(batch.key))
    np.testing.assert_array_equal(batch.has_positive, anchors < IMAGES - 1)


def test_without_a_table_there_are_no_positives_and_the_same_other_crops():
  source = images.constant_source(IMAGES)
  for without, with_ in zip(
    batches(source, positives=None), batches(source), strict=True
  ):
    assert without.positive_query == ()
    assert without.positive_key is None
    np.testing.assert_array_equal(without.query[0], with_.query[0])
    np.testing.assert_array_equal(without.key, with_.key)


def test_a_plan_can_leave_out_crops_of_positives_to_mix_in():
  source = images.constant_source(IMAGES)
  plan = PLAN._replace(positive_queries=False)
  for part, whole in zip(batches(source, plan=plan), batches(source), strict=True):
    assert part.positive_query == ()
    np.testing.assert_array_equal(part.positive_key, whole.positive_key)


def test_no_two_crops_of_a_batch_are_cut_alike():
  # Of one and the same picture, so that crops differ only by where they are cut,
  # and so large that no two places agree by chance.
  noise = np.random.default_rng(0).integers(0, 256, (1, 200, 200, 3), dtype=np.uint8)
  pictures = noise.repeat(IMAGES, 0)
  batch = batches(pipeline.ArraySource(pictures, None), steps=1)[0]
  large = [batch.query[0], batch.key, batch.positive_query[0], batch.positive_key]
  small = [batch.query[1], batch.positive_query[1]]
  for crops in (np.concatenate(large), np.concatenate(small)):
    assert len(np.unique(crops, axis=0)) == len(crops)


def test_a_run_resumed_in_the_middle_gets_the_batches_it_would_have_got():
  source = pipeline.ArraySource(random_pictures(), None)
  options = {"positives": NEXT, "rows": slice(0, BATCH), "last_step": 5}
  later = pipeline.train_batches(source, STREAM, PLAN, first_step=4, **options)
  np.testing.assert_array_equal(
    next(later).query[0], batches(source, steps=5)[4].query[0]
  )


def folder_of(root, pictures):
  for i, picture in enumerate(pictures):
    images.write_png(root / "train" / "a" / f"{i:03}.png", picture)
  source, _ = open_folder(root)
  return source


def open_folder(root, **changes):
  options = {
    "path": str(root),
    "test_path": "",
    "tfds_name": "",
    "train_split": "train",
  }
  options |= {"test_split": "val", "test_fraction": 0.0} | changes
  return load_source("folder", **options)


def random_pictures():
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (IMAGES, 11, 13, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["arrays", "folder"])
def test_two_hosts_read_the_halves_of_one_hosts_batch(kind, tmp_path):
  pictures = random_pictures()
  if kind == "arrays":
    source = pipeline.ArraySource(pictures, None)
  else:
    source = folder_of(tmp_path, pictures)
  halves = [batches(source, rows=rows) for rows in (slice(0, 3), slice(3, 6))]
  for whole, first, second in zip(batches(source), *halves, strict=True):
    for name in ("key", "positive_key", "has_positive", "key_row", "query_row"):
      both = np.concatenate([getattr(first, name), getattr(second, name)])
      np.testing.assert_array_equal(both, getattr(whole, name))
    np.testing.assert_array_equal(
      np.concatenate([first.query[1], second.query[1]]), whole.query[1]
    )


def test_a_folder_gives_the_crops_that_the_same_arrays_give(tmp_path):
  pictures = random_pictures()
  arrays = batches(pipeline.ArraySource(pictures, None))
  files = batches(folder_of(tmp_path, pictures))
  for a, b in zip(arrays, files, strict=True):
    for x, y in ((a.query[0], b.query[0]), (a.positive_key, b.positive_key)):
      # The two resize in another order of sums, then round.
      assert np.abs(x.astype(int) - y.astype(int)).max() <= 1


def test_the_pipeline_has_threads_for_the_cores_that_may_be_used(monkeypatch):
  monkeypatch.setattr(pipeline.joblib, "cpu_count", lambda: 3)
  cut = pipeline.Cut(0, CenterCrop(8, 1.0))
  dataset = pipeline._dataset(images.constant_source(4), lambda: iter(()), [cut], 2)
  threads = dataset.options().threading.private_threadpool_size
  assert threads == 3 * pipeline._THREADS_A_CORE


def test_evaluation_crops_come_in_the_order_of_the_ids():
  source = images.constant_source(IMAGES)
  ids = np.array([[5, 1, 2, 19], [0, 0, 7, 3]])
  out = list(images.host_batches(source, ids, CenterCrop(4, 1.0), slice(1, 3)))
  assert [levels(crop).tolist() for crop in out] == [[1, 2], [0, 7]]


def truncated(path):
  images.write_jpeg(path, random_pictures()[0].repeat(8, 0).repeat(8, 1))
  path.write_bytes(path.read_bytes()[:-200])


def garbage(path):
  path.write_bytes(b"no image at all")


@pytest.mark.parametrize(("damage", "place"), [(truncated, 0), (garbage, 17)])
def test_a_broken_file_is_named(damage, place, tmp_path):
  folder_of(tmp_path, random_pictures())
  path = tmp_path / "train" / "a" / f"{place:03}.png"
  damage(path)
  source, _ = open_folder(tmp_path)
  with pytest.raises(BadImageError, match=f"{place:03}.png"):
    batches(source, steps=9)
  ids = np.arange(IMAGES).reshape(5, 4)
  with pytest.raises(BadImageError, match=f"{place:03}.png"):
    list(images.host_batches(source, ids, CenterCrop(4, 1.0), slice(0, 4)))


def test_a_bad_table_is_reported_as_itself(tmp_path):
  source = folder_of(tmp_path, random_pictures())
  short = Positives(NEXT.ids[:3], NEXT.start[:3], NEXT.count[:3])
  with pytest.raises(tf.errors.OpError, match="IndexError"):
    batches(source, positives=short)


def test_a_broken_file_does_not_hide_the_batches_before_it(tmp_path):
  folder_of(tmp_path, random_pictures())
  garbage(tmp_path / "train" / "a" / "011.png")
  source, _ = open_folder(tmp_path)
  ids = np.arange(IMAGES).reshape(5, 4)
  crops = images.host_batches(source, ids, CenterCrop(4, 1.0), slice(0, 4))
  assert len(next(crops)) == 4
  assert len(next(crops)) == 4
  with pytest.raises(BadImageError, match="repair or remove"):
    next(crops)


def quoted(path):
  """TensorFlow quotes so short a file in its error, which then is no text."""
  path.write_bytes(b"\x89PNG no image")


def test_with_skip_the_next_good_image_is_seen_in_place_of_a_bad_one(tmp_path, caplog):
  pictures = random_pictures()
  names = [f"{place:03}.png" for place in (3, 4, 17, IMAGES - 1)]
  folder_of(tmp_path / "broken", pictures)
  for name, damage in zip(names, (truncated, garbage, quoted, garbage), strict=True):
    damage(tmp_path / "broken" / "train" / "a" / name)
  pictures[[3, 4, 17, IMAGES - 1]] = pictures[[5, 5, 18, 0]]
  expected = batches(folder_of(tmp_path / "replaced", pictures), steps=6)
  source, _ = open_folder(tmp_path / "broken", on_bad_image="skip")
  found = batches(source, steps=6)
  for a, b in zip(expected, found, strict=True):
    jax.tree.map(np.testing.assert_array_equal, a, b)
  assert source.stand_ins == {3: 5, 4: 5, 17: 18, IMAGES - 1: 0}
  for name in names:
    assert sum(name in line.split(";")[0] for line in caplog.messages) == 1


def test_skipping_ends_where_no_image_is_good(tmp_path):
  folder_of(tmp_path, random_pictures()[:6])
  for path in (tmp_path / "train" / "a").iterdir():
    garbage(path)
  source, _ = open_folder(tmp_path, on_bad_image="skip")
  ids = np.arange(6).reshape(3, 2)
  with pytest.raises(BadImageError, match="no image can be decoded"):
    list(images.host_batches(source, ids, CenterCrop(4, 1.0), slice(0, 2)))


def test_a_pipeline_of_files_is_made_once_and_never_shared(tmp_path, monkeypatch):
  source = folder_of(tmp_path, random_pictures())
  made, make = [], pipeline._dataset
  monkeypatch.setattr(
    pipeline, "_dataset", lambda *given: made.append(1) or make(*given)
  )

  def crops(ids):
    return images.host_batches(source, ids, CenterCrop(4, 1.0), slice(0, 4))

  ids = np.arange(IMAGES).reshape(5, 4)
  expected = list(crops(ids))
  np.testing.assert_array_equal(list(crops(ids[::-1])), expected[::-1])
  next(crops(ids))  # and given up
  assert len(made) == 1
  # Two at a time have one each.
  for there, back, a, b in zip(
    crops(ids), crops(ids[::-1]), expected, expected[::-1], strict=True
  ):
    np.testing.assert_array_equal(there, a)
    np.testing.assert_array_equal(back, b)
  assert len(made) == 2
