"""TFDS builds that the test prepares itself, offline."""

import images
import numpy as np
import pytest
import tensorflow_datasets as tfds

from clim_jax.data import pipeline
from clim_jax.data.crops import CenterCrop
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
  crops = pipeline.evaluation_batches(
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
  with pytest.raises(ValueError, match="tfds build records --file_format=array_record"):
    load(tmp_path, "records")


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
