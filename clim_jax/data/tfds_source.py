"""TFDS builds in the ArrayRecord format, which can be read at random."""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.data_sources.base import BaseDataSource

_LABEL_BLOCK = 4096  # records read at once when only their labels are wanted


def open_split(
  name: str, split: str, data_dir: str
) -> tuple[
  int,
  Callable[[], np.ndarray | None],
  Callable[[tf.Tensor], tf.Tensor],
  Callable[[tf.Tensor], tf.Tensor],
  Callable[[int], str],
]:
  """The fields of an `EncodedSource` for one split.

  Records are read as they lie on disk, a batch at a time, and parsed by
  TensorFlow: no Python runs per image.

  Args:
    name: of the dataset, as `tfds.builder` takes it.
    split: any TFDS split expression, such as "train" or "train[:90%]".
    data_dir: where the build lies; "" is TFDS's default.

  Raises:
    ValueError: no such dataset or split; or it is not prepared, or not as
      ArrayRecord, and then the message says how to.
  """
  records = _open_records(name, split, data_dir)

  def read(ids: np.ndarray) -> np.ndarray:
    found = records.__getitems__([int(i) for i in ids.ravel()])
    return np.array(found, object).reshape(ids.shape)

  def fetch(ids: tf.Tensor) -> tf.Tensor:
    out = tf.numpy_function(read, [ids], tf.string)
    out.set_shape(ids.shape)
    return out

  def load(record: tf.Tensor) -> tf.Tensor:
    feature = {"image": tf.io.FixedLenFeature([], tf.string)}
    return tf.io.parse_single_example(record, feature)["image"]

  @functools.cache
  def labels() -> np.ndarray | None:
    if "label" not in records.dataset_info.features:
      return None
    feature = {"label": tf.io.FixedLenFeature([], tf.int64)}
    blocks = [
      tf.io.parse_example(read(ids), feature)["label"].numpy()
      for ids in np.split(
        np.arange(len(records)), range(_LABEL_BLOCK, len(records), _LABEL_BLOCK)
      )
    ]
    return np.concatenate(blocks)

  return len(records), labels, fetch, load, lambda image: f"{name}/{split}[{image}]"


def _open_records(name: str, split: str, data_dir: str) -> BaseDataSource:
  where = f"data_dir={data_dir!r}, " if data_dir else ""
  # Not `tfds build`, which does not start without Apache Beam.
  prepare = (
    "`import tensorflow_datasets as tfds; "
    f"tfds.builder({name!r}, {where}file_format='array_record').download_and_prepare()`"
  )
  try:
    builder = tfds.builder(name, data_dir=data_dir or None, try_gcs=False)
  except tfds.core.DatasetNotFoundError as error:
    raise ValueError(f"TFDS has no dataset {name!r}; check data.tfds_name") from error
  # The splits alone do not tell: TFDS may know them from its public bucket.
  if not builder.is_prepared():
    raise ValueError(
      f"TFDS dataset {name!r} is not in {builder.data_dir}; prepare it: {prepare}"
    )
  if "image" not in builder.info.features:
    features = sorted(builder.info.features)
    raise ValueError(f"TFDS dataset {name!r} has features {features}, no 'image'")
  formats = sorted(form.value for form in builder.info.available_file_formats())
  if "array_record" not in formats:
    # TFDS refuses a second format in the same place.
    raise ValueError(
      f"TFDS dataset {name!r} in {builder.data_dir} is in the formats {formats}, "
      "without array_record, which random access needs; write its images as files, "
      f"`clim convert --input={builder.data_dir} --output=FOLDER`, and read them by "
      "data.source=folder; or remove it or set another data.path, then prepare it: "
      f"{prepare}"
    )
  return builder.as_data_source(
    split,
    deserialize_method=tfds.core.decode.DeserializeMethod.RAW_BYTES,
    file_format="array_record",
  )
