"""Labelled batches: which images, which crops, for whom."""

import jax
import numpy as np
import pytest

from clim_jax import sharding
from clim_jax.data.crops import RandomCrop
from clim_jax.data.labelled import (
  LabelledStream,
  batch_size_for,
  labelled_batches,
)
from clim_jax.data.source import ArraySource

IDS = np.arange(40, 51)
WHOLE = RandomCrop(4, (1.0, 1.0), (1.0, 1.0))


def source(num_images=60):
  """Image i is gray of level i, darker in its left half."""
  images = np.zeros((num_images, 4, 4, 3), np.uint8)
  images += np.arange(num_images, dtype=np.uint8)[:, None, None, None]
  images[:, :, 2:] += 100
  return ArraySource(images, None)


def batches(stream, *, steps=3, flips=0.0, crop=WHOLE):
  labels = np.arange(60) * 2
  mesh = sharding.make_mesh(jax.devices()[:2])
  options = {"steps": steps, "flip_probability": flips}
  found = labelled_batches(mesh, source(), labels, stream, crop, **options)
  return jax.device_get(list(found))


def test_passes_follow_one_another_and_show_each_image_once():
  stream = LabelledStream(IDS, batch_size=4, seed=0)
  shown = np.concatenate([stream.step(step)[0] for step in range(11)])
  assert stream.steps_per_epoch == 2
  passes = shown.reshape(4, 11)
  assert all(sorted(ids) == list(IDS) for ids in passes)
  assert len({tuple(ids) for ids in passes}) == 4


def test_few_images_are_repeated_to_fill_a_batch():
  assert batch_size_for(11, asked=256, devices=8) == 16
  assert batch_size_for(11, asked=8, devices=8) == 8
  stream = LabelledStream(IDS, batch_size=16, seed=0)
  assert stream.steps_per_epoch == 1
  assert np.unique(stream.step(0)[0], return_counts=True)[1].max() == 2


def test_steps_depend_on_seed_and_step_alone():
  stream = LabelledStream(IDS, batch_size=4, seed=0)
  for part, again in zip(stream.step(5), stream.step(5), strict=True):
    np.testing.assert_array_equal(part, again)
  other = stream._replace(seed=1).step(5)
  assert (stream.step(5)[1] != other[1]).any()
  assert (stream.step(5)[1] != stream.step(6)[1]).any()


def test_labels_are_those_of_the_images():
  for batch in batches(LabelledStream(IDS, batch_size=4, seed=0)):
    assert batch.labels.dtype == np.int32
    np.testing.assert_array_equal(batch.images[:, 0, 0, 0] * 2, batch.labels)


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_flips_follow_their_probability(probability, share):
  flips = [b.flips for b in batches(LabelledStream(IDS, 8, 0), flips=probability)]
  assert np.mean(flips) == share


def test_half_of_the_flips_are_drawn_and_differ_from_step_to_step():
  flips = [b.flips for b in batches(LabelledStream(IDS, 8, 0), steps=40, flips=0.5)]
  assert 0.4 < np.mean(flips) < 0.6
  assert len({tuple(row) for row in flips}) > 20


def test_processes_together_have_the_batch_of_one(monkeypatch):
  stream = LabelledStream(IDS, batch_size=8, seed=0)
  crop = RandomCrop(3, (0.2, 1.0), (0.75, 4 / 3))
  whole = batches(stream, flips=0.5, crop=crop)
  parts = []
  for rows in (slice(0, 4), slice(4, 8)):
    monkeypatch.setattr(sharding, "process_rows", lambda *_, rows=rows: rows)
    parts.append(batches(stream, flips=0.5, crop=crop))
  for one, *two in zip(whole, *parts, strict=True):
    for field in one._fields:
      joined = np.concatenate([getattr(part, field) for part in two])
      np.testing.assert_array_equal(getattr(one, field), joined)


def test_crops_are_random():
  crop = RandomCrop(2, (0.2, 0.5), (1.0, 1.0))
  shown = batches(LabelledStream(IDS[:1], 8, 0), steps=4, crop=crop)
  assert len({image.tobytes() for batch in shown for image in batch.images}) > 1
