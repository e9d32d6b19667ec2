"""TFDS builds that the test prepares itself, offline."""

import re

import images
import numpy as np
import pytest
import tensorflow_datasets as tfds

from clim_jax.data import pipeline, tfds_source
from clim_jax.data.crops import CenterCrop, RandomCrop
from clim_jax.data.cuts import ViewPlan
from clim_jax.data.index_stream import IndexStream
from clim_jax.data.sources import load_source

COUNT = 12


def prepare(data_dir, name, file_format, features=None):
  """Stores COUNT constant images; labels are id mod 3."""
  pictures = images.constant_images(COUNT)
  features = features or {
    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
    "label": tfds.features.ClassLabel(num_classes=3),
  }
  examples = []
  for i, picture in enumerate(pictures):
    example = {"image": picture, "label": i % 3}
    examples.append((i, {key: example[key] for key in features}))
  tfds.dataset_builders.store_as_tfds_dataset(
    name=name,
    version="1.0.0",
    features=tfds.features.FeaturesDict(features),
    split_datasets={"train": examples},
    data_dir=str(data_dir),
    config="default",
    download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    file_format=file_format,
  )


def load(data_dir, name, train="train", test=""):
  return load_source(
    "tfds",
    path=str(data_dir),
    test_path="",
    tfds_name=name,
    train_split=train,
    test_split=test,
    test_fraction=0.0,
  )


@pytest.fixture(scope="module")
def array_records(tmp_path_factory):
  data_dir = tmp_path_factory.mktemp("tfds")
  prepare(data_dir, "constant", "array_record")
  return data_dir


def shown(source, ids):
  crops = images.host_batches(
    source, np.array([ids]), CenterCrop(4, 1.0), slice(0, len(ids))
  )
  return next(crops)[:, 0, 0, 0].tolist()


def test_records_are_read_at_random_with_their_labels(array_records):
  source, test = load(array_records, "constant")
  assert source.num_images == COUNT
  assert test is None
  everything = shown(source, list(range(COUNT)))
  assert sorted(everything) == list(range(COUNT))  # TFDS shuffles what it stores
  assert shown(source, [7, 2, 7]) == [everything[i] for i in (7, 2, 7)]
  assert source.labels().tolist() == [level % 3 for level in everything]


def test_split_expressions_are_understood(array_records):
  train, test = load(array_records, "constant", "train[:75%]", "train[75%:]")
  assert (train.num_images, test.num_images) == (9, 3)
  both = shown(train, list(range(9))) + shown(test, list(range(3)))
  assert sorted(both) == list(range(COUNT))


def test_a_subset_keeps_images_and_labels_together(array_records):
  source, _ = load(array_records, "constant")
  part = source.subset(np.array([4, 9]))
  assert [level % 3 for level in shown(part, [0, 1])] == part.labels().tolist()


def test_a_tfrecord_build_names_the_command_that_mends_it(tmp_path):
  prepare(tmp_path, "records", "tfrecord")
  with pytest.raises(ValueError, match="remove it or set another") as error:
    load(tmp_path, "records")
  assert "file_format='array_record').download_and_prepare()" in str(error.value)


def test_a_dataset_that_is_not_prepared_is_not_downloaded(tmp_path, monkeypatch):
  def refuse(*args, **kwargs):
    raise AssertionError("a download was attempted")

  monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", refuse)
  with pytest.raises(ValueError, match=r"is not in .*; prepare it: `import"):
    load(tmp_path, "mnist")
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("split", ["no_such_split", "train[oops"])
def test_an_unknown_split_is_named(split, array_records):
  with pytest.raises(ValueError, match=re.escape(split)):
    load(array_records, "constant", split)


def test_labels_are_read_in_blocks_without_loss(array_records, monkeypatch):
  whole = load(array_records, "constant")[0].labels()
  monkeypatch.setattr(tfds_source, "_LABEL_BLOCK", 5)  # 12 = 5 + 5 + 2
  np.testing.assert_array_equal(load(array_records, "constant")[0].labels(), whole)


def test_training_batches_show_the_records_of_the_stream(array_records):
  source, _ = load(array_records, "constant")
  level = np.array(shown(source, list(range(COUNT))))
  crop = RandomCrop(4, (0.2, 1.0), (3 / 4, 4 / 3))
  plan = ViewPlan((crop,), positive_queries=True)
  stream = IndexStream(0, COUNT, 4, plan.num_crops)
  batches = pipeline.train_batches(
    source,
    stream,
    plan,
    first_step=2,
    last_step=5,
    positives=None,
    rows=slice(0, 4),
  )
  for step, batch in enumerate(batches, start=2):
    expected = level[stream.step(step, None).anchors]
    np.testing.assert_array_equal(batch.query[0][:, 0, 0, 0], expected)
    np.testing.assert_array_equal(batch.key[batch.key_row][:, 0, 0, 0], expected)


def test_an_unknown_dataset_is_named(tmp_path):
  with pytest.raises(ValueError, match=r"check data\.tfds_name"):
    load(tmp_path, "no_such_dataset_anywhere")


def test_a_dataset_without_images_is_refused(tmp_path):
  prepare(
    tmp_path,
    "labels_only",
    "array_record",
    {"label": tfds.features.ClassLabel(num_classes=3)},
  )
  with pytest.raises(ValueError, match="no 'image'"):
    load(tmp_path, "labels_only")
