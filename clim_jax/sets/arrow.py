"""Sets of the Hugging Face `datasets`: folders of `save_to_disk`, parquet files."""

import collections
import functools
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow
from pyarrow import parquet, types

from clim_jax.sets.pack import (
  LABELS,
  Pack,
  PackError,
  Part,
  Record,
  files_below,
  part_of,
)

_IMAGES = ("image", "img", "images", "jpg", "png", "pixel_values", "picture")
_ROWS = 64  # read at once


class _Columns(NamedTuple):
  image: str
  label: str  # "": none
  classes: list[str] | None  # names of a label's numbers


def open_arrow(root: str) -> Pack | None:
  """A folder or file of Arrow or parquet data; None if there is none.

  Args:
    root: what `save_to_disk` wrote, or any folder with parquet files.

  Raises:
    PackError: there is no column of images in it, or a file that is not inside.
  """
  files = collections.defaultdict(list)
  for folder, part in _saved_folders(root):
    files[part] += _saved_files(folder)
  if not files:
    for path in files_below(root, ".parquet", ".arrow"):
      # Beside its data `datasets` keeps what it has computed.
      if not os.path.basename(path).startswith("cache-"):
        files[part_of(root, path)].append(path)
  if not files:
    return None
  columns = _columns(root, _schema(next(iter(files.values()))[0]))
  parts = {
    part: Part(
      functools.partial(_records, root, paths, columns),
      sum(_rows(path) for path in paths),
    )
    for part, paths in files.items()
  }
  return Pack(parts, f"the column {columns.label}" if columns.label else "")


def _saved_folders(root: str) -> list[tuple[str, str]]:
  """Folders that `save_to_disk` wrote, each with its part."""
  whole = os.path.join(root, "dataset_dict.json")
  if os.path.isfile(whole):
    splits = _json(whole)["splits"]
    return [(_inside(root, split), split) for split in splits]
  if os.path.isfile(os.path.join(root, "state.json")):
    split = _json(os.path.join(root, "state.json")).get("_split")
    return [(root, split or "train")]
  return []


def _saved_files(folder: str) -> list[str]:
  state = _json(os.path.join(folder, "state.json"))
  return [_inside(folder, entry["filename"]) for entry in state["_data_files"]]


def _inside(root: str, name: str) -> str:
  """A file or folder by its name; raises PackError if that leads out of the root."""
  path = os.path.realpath(os.path.join(root, name))
  if not path.startswith(os.path.realpath(root) + os.sep):
    raise PackError(
      f"{root} names {name!r}, which lies outside: it is not read; write the set by "
      "save_to_disk, which keeps images inside"
    )
  if not os.path.exists(path):
    raise PackError(f"{root} names {name!r}, which is not there: it is not whole")
  return path


def _json(path: str) -> dict[str, Any]:
  with open(path, encoding="utf-8") as file:
    return json.load(file)


def _columns(root: str, schema: pyarrow.Schema) -> _Columns:
  metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
  features = metadata.get("info", {}).get("features", {})
  of_images = [
    field.name
    for field in schema
    if features.get(field.name, {}).get("_type") == "Image" or _holds_files(field.type)
  ]
  of_images.sort(key=lambda name: (name not in _IMAGES, schema.names.index(name)))
  if not of_images:
    told = ", ".join(f"{field.name} ({field.type})" for field in schema)
    raise PackError(
      f"{root} has no column of image files, only {told}; cast one to "
      "datasets.Image() and save it anew"
    )
  classed = [name for name in schema.names if _type_of(features, name) == "ClassLabel"]
  plain = [name for name in LABELS if name in schema.names]
  named = [name for name in plain if name in classed] + classed + plain
  label = next((name for name in named if _is_scalar(schema.field(name).type)), "")
  classes = features[label]["names"] if label in classed else None
  return _Columns(of_images[0], label, classes)


def _type_of(features: dict[str, Any], name: str) -> str:
  feature = features.get(name)
  return feature.get("_type", "") if isinstance(feature, dict) else ""


def _holds_files(kind: pyarrow.DataType) -> bool:
  if types.is_struct(kind):
    return kind.get_field_index("bytes") >= 0
  return types.is_binary(kind) or types.is_large_binary(kind)


def _is_scalar(kind: pyarrow.DataType) -> bool:
  return types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)


def _schema(path: str) -> pyarrow.Schema:
  if path.endswith(".parquet"):
    return parquet.read_schema(path)
  with _stream(path) as stream:
    return stream.schema


def _rows(path: str) -> int:
  if path.endswith(".parquet"):
    return parquet.read_metadata(path).num_rows
  with _stream(path) as stream:
    return sum(batch.num_rows for batch in stream)


def _stream(path: str) -> pyarrow.RecordBatchStreamReader:
  return pyarrow.ipc.open_stream(pyarrow.memory_map(path))


def _batches(path: str, names: list[str]) -> Iterator[pyarrow.RecordBatch]:
  if path.endswith(".parquet"):
    with parquet.ParquetFile(path) as file:
      yield from file.iter_batches(_ROWS, columns=names)
    return
  with _stream(path) as stream:
    for batch in stream:
      chosen = batch.select(names)
      for first in range(0, batch.num_rows, _ROWS):
        yield chosen.slice(first, _ROWS)


def _records(root: str, paths: list[str], columns: _Columns) -> Iterator[Record]:
  names = [columns.image] + [columns.label] * bool(columns.label)
  for path in paths:
    for batch in _batches(path, names):
      for row in batch.to_pylist():
        label = row.get(columns.label) if columns.label else None
        yield Record(_file(root, row[columns.image]), _name(label, columns.classes))


def _file(root: str, image: Any) -> bytes:
  """The bytes of an image: they are there, or those of a file inside the folder."""
  if not isinstance(image, dict):
    return image or b""
  if image.get("bytes") is not None:
    return image["bytes"]
  if not image.get("path"):
    return b""
  with open(_inside(root, image["path"]), "rb") as file:
    return file.read()


def _name(label: int | str | None, classes: list[str] | None) -> str:
  if label is None or label == -1:  # as the hub keeps test labels that are secret
    return ""
  return classes[label] if classes else str(label)
