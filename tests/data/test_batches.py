"""Crops cut on the devices against those of tf.data and of PIL."""

import images
import jax
import numpy as np
import pytest
from PIL import Image
from skimage import data

from clim_jax import devices, sharding
from clim_jax.data import batches, pipeline, place
from clim_jax.data.array_crops import cut_crops
from clim_jax.data.crops import UNIFORMS, CenterCrop, RandomCrop
from clim_jax.data.cuts import ViewPlan
from clim_jax.data.index_stream import IndexStream
from clim_jax.data.place import place_of
from clim_jax.data.source import ArraySource
from clim_jax.data.sources import folder_source
from clim_jax.selection.positives import Positives

IMAGES, BATCH = 20, 8
SCALES, RATIOS = (0.2, 1.0), (3 / 4, 4 / 3)
PLAN = ViewPlan(
  (
    RandomCrop(40, SCALES, RATIOS),
    RandomCrop(16, SCALES, RATIOS),
    RandomCrop(7, (0.05, 0.4), (1.0, 1.0)),
  ),
  positive_queries=True,
)
STREAM = IndexStream(
  seed=1, num_images=IMAGES, batch_size=BATCH, num_crops=PLAN.num_crops
)
NEXT = Positives(  # the positive of image i is image i + 1; the last has none
  np.arange(1, IMAGES + 1, dtype=np.int32) % IMAGES,
  np.arange(IMAGES, dtype=np.int64),
  (np.arange(IMAGES) < IMAGES - 1).astype(np.int32),
)


def source(height, width, crops="device"):
  """Noise and photographs, by turns."""
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (IMAGES, height, width, 3), dtype=np.uint8)
  photograph = Image.fromarray(data.astronaut()).resize((width, height))
  pixels[::2] = np.asarray(photograph)
  return ArraySource(pixels, None, crops=crops)


def mesh(devices=2):
  return sharding.make_mesh(jax.devices()[:devices])


def train(images, *, devices=2, positives=NEXT, steps=(0, 2)):
  """Batches on the host, by the way that the images say."""
  first, last = steps
  on = mesh(devices)
  spec = batches.spec_of(images, on)
  cut = sharding.spmd(batches.as_cut, on, in_specs=(spec,), out_specs=sharding.ROWS)
  given = batches.train_batches(
    on, images, STREAM, PLAN, first_step=first, last_step=last, positives=positives
  )
  return [jax.device_get(cut(batch)) for batch in given]


def assert_within_a_level(found, expected):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    levels = 1 if a.dtype == np.uint8 else 0
    differ = np.abs(a.astype(int) - b.astype(int))
    assert differ.max() <= levels
    assert (differ > 0).mean() < 1e-3  # half-way levels alone would be more


@pytest.mark.parametrize("positives", [None, NEXT])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 41), (9, 5)])
def test_batches_are_those_of_tf_data(height, width, positives):
  found = train(source(height, width), positives=positives)
  expected = train(source(height, width, "host"), positives=positives)
  assert (found[0].positive_key is None) == (positives is None)
  for a, b in zip(found, expected, strict=True):
    assert_within_a_level(a, b)


@pytest.mark.parametrize("fraction", [1.0, 0.875, 0.3])
@pytest.mark.parametrize("side", [40, 16, 7])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 41)])
def test_evaluation_crops_are_those_of_tf_data(height, width, side, fraction):
  ids, crop = np.array([[5, 1, 2, 19], [0, 0, 7, 3]]), CenterCrop(side, fraction)
  both = (source(height, width, where) for where in ("device", "host"))
  found, expected = (
    jax.device_get(list(batches.evaluation_batches(mesh(), each, ids, crop)))
    for each in both
  )
  assert len(found) == 2
  assert_within_a_level(found, expected)


def test_one_crop_of_each_image_is_that_of_tf_data():
  rng, crop = np.random.default_rng(3), RandomCrop(16, SCALES, RATIOS)
  turns = [
    (rng.integers(0, IMAGES, 4), rng.random((4, UNIFORMS), np.float32))
    for _ in range(3)
  ]
  found, expected = (
    jax.device_get(list(batches.crop_batches(mesh(), each, iter(turns), crop, 4)))
    for each in (source(30, 22), source(30, 22, "host"))
  )
  assert len(found) == 3
  assert_within_a_level(found, expected)


@pytest.mark.parametrize("side", [8, 40, 100])
def test_crops_are_those_of_pil_within_a_level(side):
  picture = np.asarray(Image.fromarray(data.astronaut()).resize((120, 90)))
  numbers = np.random.default_rng(0).random((12, UNIFORMS), np.float32)
  boxes = RandomCrop(side, SCALES, RATIOS).boxes(numbers, 90, 120)
  ours = np.asarray(cut_crops(picture[None], np.zeros(12, int), boxes, side))
  for crop, (top, left, height, width) in zip(ours, boxes.tolist(), strict=True):
    whole = Image.fromarray(picture)
    part = whole.crop((left, top, left + width, top + height))
    theirs = np.asarray(part.resize((side, side), Image.Resampling.BILINEAR), int)
    # PIL rounds to a level between its two passes.
    assert np.abs(crop.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("devices", [1, 8])
def test_batches_do_not_depend_on_the_number_of_devices(devices):
  images = source(24, 41)
  for a, b in zip(train(images, devices=devices), train(images), strict=True):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_batches_do_not_depend_on_the_number_of_processes(monkeypatch):
  images, parts = source(24, 41), []
  whole = train(images)
  for rows in (slice(0, 4), slice(4, 8)):
    monkeypatch.setattr(sharding, "process_rows", lambda *_, rows=rows: rows)
    parts.append(train(images))
  for one, *two in zip(whole, *parts, strict=True):
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *two)
    jax.tree.map(np.testing.assert_array_equal, one, joined)


def test_a_run_resumed_in_the_middle_gets_the_batches_it_would_have_got():
  images = source(24, 41)
  (later,) = train(images, steps=(4, 5))
  jax.tree.map(np.testing.assert_array_equal, later, train(images, steps=(0, 5))[4])


def test_images_are_put_on_the_devices_once():
  images, on = source(9, 9), mesh()
  assert images.on(on) is images.on(on)
  assert images.on(on).sharding.is_fully_replicated
  assert len(images.on(on).sharding.device_set) == 2
  np.testing.assert_array_equal(images.on(on), images.images)


def test_a_part_of_the_images_has_its_own_on_the_devices():
  images = source(9, 9)
  part = images.subset(np.array([3, 1]))
  np.testing.assert_array_equal(part.on(mesh()), images.images[[3, 1]])
  assert part.crops == images.crops


def test_the_same_cuts_compile_once():
  a, b = (next(iter_batches()).rows for _ in range(2))
  assert jax.tree.structure(a) == jax.tree.structure(b)
  assert hash(jax.tree.structure(a)) == hash(jax.tree.structure(b))
  without = next(iter_batches(positives=None)).rows
  assert jax.tree.structure(a) != jax.tree.structure(without)


def iter_batches(positives=NEXT):
  return batches.train_batches(
    mesh(), source(9, 9), STREAM, PLAN, first_step=0, last_step=1, positives=positives
  )


def test_auto_takes_the_device_up_to_an_eighth_of_its_memory(monkeypatch):
  images = source(32, 32, "auto")  # 60 KiB
  for eighths, on_device in ((8, True), (8 - 1e-3, False)):
    memory_of_each = int(eighths * images.images.nbytes)
    monkeypatch.setattr(place, "device_memory", lambda _, m=memory_of_each: m)
    found = place_of(images, mesh())
    assert found.on_device == on_device
    assert "12.5%" in found.why
    assert isinstance(batches.spec_of(images, mesh()), tuple) == on_device


@pytest.mark.parametrize("asked", ["device", "host"])
def test_what_is_asked_for_is_done_whatever_the_memory(asked, monkeypatch):
  monkeypatch.setattr(place, "device_memory", lambda _: 1 if asked == "device" else 1e9)
  found = place_of(source(32, 32, asked), mesh())
  assert found == (asked == "device", f"data.crops={asked}")


def test_encoded_images_are_cut_on_the_host(tmp_path):
  images.write_png(tmp_path / "a.png", np.zeros((9, 9, 3), np.uint8))
  encoded, _ = folder_source(str(tmp_path))
  assert not place_of(encoded, mesh()).on_device
  shown = batches.evaluation_batches(
    mesh(), encoded, np.array([[0, 0]]), CenterCrop(4, 1.0)
  )
  assert next(shown).shape == (2, 4, 4, 3)


def test_a_cpu_shares_its_memory_among_its_devices(monkeypatch):
  monkeypatch.setattr(devices, "_host_memory", lambda: 8000)
  assert devices.device_memory(jax.devices()[0]) == 1000  # of the eight of the tests


def test_a_container_may_have_less_memory_than_the_machine(monkeypatch, tmp_path):
  assert devices._host_memory() > 2**20
  limit = tmp_path / "memory.max"
  monkeypatch.setattr(devices, "_CONTAINER_LIMITS", (limit, tmp_path / "none"))
  limit.write_text("12345\n")
  assert devices._host_memory() == 12345
  limit.write_text("max\n")
  assert devices._host_memory() > 2**20


def test_a_fault_in_the_thread_that_makes_batches_is_raised():
  short = Positives(NEXT.ids[:3], NEXT.start[:3], NEXT.count[:3])
  with pytest.raises(IndexError):
    train(source(9, 9), positives=short)


def test_the_host_crops_are_made_by_tensorflow(monkeypatch):
  called = []
  monkeypatch.setattr(
    pipeline,
    "crop_batches",
    lambda *a: called.append(a) or iter([np.zeros((2, 4, 4, 3))]),
  )
  ids, crop = np.array([[0, 1]]), CenterCrop(4, 1.0)
  for where, calls in (("device", 0), ("host", 1)):
    list(batches.evaluation_batches(mesh(), source(9, 9, where), ids, crop))
    assert len(called) == calls
