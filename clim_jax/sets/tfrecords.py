"""TFDS builds that cannot be read at random, read in order."""

import functools
import os
import types
from collections.abc import Iterator
from typing import Any

from clim_jax.sets.pack import LABELS, Pack, PackError, Part, Record

_DEEPEST = 3  # folders above a build: its name, its config, its version


def open_build(root: str) -> Pack | None:
  """The TFDS build in a folder, or in the only one below it; None if there is none.

  Raises:
    PackError: there are several, or one without images, or one in no need of it.
  """
  builds = _builds(root, _DEEPEST)
  if not builds:
    return None
  if len(builds) > 1:
    raise PackError(f"{root} holds several sets, choose one: {', '.join(builds)}")
  tfds = _library()
  builder = tfds.builder_from_directory(builds[0])
  if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
    raise PackError(
      "it is ArrayRecord, which is read as it is: data.source=tfds, "
      f"data.tfds_name={builder.name}, data.path=its data directory"
    )
  kinds = tfds.features
  features = dict(builder.info.features.items())
  images = [name for name, one in features.items() if isinstance(one, kinds.Image)]
  if not images:
    raise PackError(f"{builds[0]} has features {sorted(features)}, none of images")
  image = "image" if "image" in images else images[0]
  classed = [
    name for name, one in features.items() if isinstance(one, kinds.ClassLabel)
  ]
  label = next((name for name in (*LABELS, *classed) if name in classed), "")
  parts = {
    split: Part(
      functools.partial(_records, builder, split, image, label),
      builder.info.splits[split].num_examples,
    )
    for split in builder.info.splits
  }
  return Pack(parts, f"the feature {label}" if label else "")


def _records(builder: Any, split: str, image: str, label: str) -> Iterator[Record]:
  tfds = _library()
  names = builder.info.features[label].int2str if label else None
  rows = builder.as_dataset(
    split=split,
    decoders={image: tfds.decode.SkipDecoding()},
    shuffle_files=False,
  )
  for row in rows.as_numpy_iterator():
    number = int(row[label]) if label else -1
    yield Record(row[image], names(number) if number >= 0 else "")


def _builds(root: str, deepest: int) -> list[str]:
  """Folders with a build, the root itself or some below."""
  if os.path.isfile(os.path.join(root, "features.json")):
    return [root]
  if not deepest or not os.path.isdir(root):
    return []
  inner = sorted(entry.path for entry in os.scandir(root) if entry.is_dir())
  return [build for folder in inner for build in _builds(folder, deepest - 1)]


def _library() -> types.ModuleType:
  """Imported only now: it brings TensorFlow, which is to be quiet about itself."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
  import tensorflow_datasets

  return tensorflow_datasets
