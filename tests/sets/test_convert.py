"""Packed sets become folders of the very same files, by part and class."""

import io
import json
import os
import tarfile

import numpy as np
import pyarrow
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from pyarrow import parquet
from rich.console import Console

from clim_jax.data.sources import load_source
from clim_jax.experiment.error import ConfigError
from clim_jax.sets.convert import convert

CLASSES = ["cat", "dog/puppy", "..", "a%2Fb"]


def encoded(level, form="PNG"):
  content = io.BytesIO()
  Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(content, form)
  return content.getvalue()


IMAGES = [encoded(level, "JPEG" if level % 2 else "PNG") for level in range(6)]
LABELS = [0, 1, 2, 3, 0, -1]


def converted(source, target):
  out = io.StringIO()
  convert(str(source), str(target), Console(file=out, width=200))
  return out.getvalue()


def files(folder):
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in folder.rglob("*")
    if path.is_file()
  }


FOLDERS = ["cat", "dog%2Fpuppy", "%2E.", "a%252Fb", "cat", ""]
EXPECTED = {
  os.path.join("train", FOLDERS[i], f"{i:08}.{'jpg' if i % 2 else 'png'}"): IMAGES[i]
  for i in range(6)
}


def hugging_face_table(images=None):
  """As the library writes it: an Image is a struct, names of classes in the schema."""
  features = {
    "image": {"_type": "Image"},
    "label": {"names": CLASSES, "_type": "ClassLabel"},
  }
  images = images or [{"bytes": one, "path": "../../x.png"} for one in IMAGES]
  kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
  schema = pyarrow.schema(
    [("image", kind), ("label", pyarrow.int64())],
    metadata={"huggingface": json.dumps({"info": {"features": features}})},
  )
  return pyarrow.table({"image": images, "label": LABELS}, schema=schema)


def save_to_disk(folder, table, split="train"):
  folder.mkdir(parents=True)
  name = "data-00000-of-00001.arrow"
  with pyarrow.ipc.new_stream(folder / name, table.schema) as stream:
    stream.write_table(table, max_chunksize=4)
  state = {"_data_files": [{"filename": name}], "_split": split}
  (folder / "state.json").write_text(json.dumps(state))
  (folder / "dataset_info.json").write_text("{}")


def test_a_parquet_file_of_the_hub_becomes_class_folders(tmp_path):
  (tmp_path / "data").mkdir()
  for part in ("train-00000-of-00001", "validation-00000-of-00001"):
    parquet.write_table(hugging_face_table(), tmp_path / f"data/{part}.parquet")
  told = converted(tmp_path / "data", tmp_path / "out")
  assert files(tmp_path / "out/train") == {
    name.removeprefix("train/"): content for name, content in EXPECTED.items()
  }
  assert files(tmp_path / "out/val") == files(tmp_path / "out/train")
  assert "6 images, 4 classes; 1 of them without a label" in told
  assert "labels: the column label" in told


def test_what_is_written_can_be_trained_on(tmp_path):
  parquet.write_table(hugging_face_table(), tmp_path / "train.parquet")
  converted(tmp_path / "train.parquet", tmp_path / "out")
  train, _ = load_source(
    "folder",
    path=str(tmp_path / "out"),
    test_path="",
    tfds_name="",
    train_split="train",
    test_split="test",
    test_fraction=0.0,
  )
  assert sorted(train.labels().tolist()) == [-1, 0, 1, 2, 2, 3]


def test_a_saved_set_is_read_with_its_parts_and_without_its_caches(tmp_path):
  save_to_disk(tmp_path / "set/train", hugging_face_table())
  save_to_disk(tmp_path / "set/unsupervised", hugging_face_table(), "unsupervised")
  (tmp_path / "set/train/cache-0123.arrow").write_bytes(b"no arrow")
  (tmp_path / "set/dataset_dict.json").write_text(
    json.dumps({"splits": ["train", "unsupervised"]})
  )
  converted(tmp_path / "set", tmp_path / "out")
  assert {p.name for p in (tmp_path / "out").iterdir()} == {"train", "unsupervised"}
  assert files(tmp_path / "out/train") == files(tmp_path / "out/unsupervised")
  converted(tmp_path / "set/train", tmp_path / "one")
  assert files(tmp_path / "one") == EXPECTED


@pytest.mark.parametrize("name", ["../secret.arrow", "/etc/passwd", "link.arrow"])
def test_nothing_outside_a_saved_set_is_read(name, tmp_path):
  save_to_disk(tmp_path / "set", hugging_face_table())
  os.rename(tmp_path / "set/data-00000-of-00001.arrow", tmp_path / "secret.arrow")
  (tmp_path / "set/link.arrow").symlink_to(tmp_path / "secret.arrow")
  state = {"_data_files": [{"filename": name}], "_split": None}
  (tmp_path / "set/state.json").write_text(json.dumps(state))
  with pytest.raises(ConfigError, match="lies outside"):
    converted(tmp_path / "set", tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_images_that_are_named_by_path_are_read_inside_and_nowhere_else(tmp_path):
  (tmp_path / "set").mkdir()
  (tmp_path / "set/1.png").write_bytes(IMAGES[0])
  (tmp_path / "2.png").write_bytes(IMAGES[2])
  inside = [{"bytes": None, "path": "1.png"}] * 6
  parquet.write_table(hugging_face_table(inside), tmp_path / "set/train.parquet")
  converted(tmp_path / "set", tmp_path / "out")
  assert set(files(tmp_path / "out").values()) == {IMAGES[0]}
  outside = [{"bytes": None, "path": "../2.png"}] * 6
  parquet.write_table(hugging_face_table(outside), tmp_path / "set/train.parquet")
  with pytest.raises(ConfigError, match="lies outside"):
    converted(tmp_path / "set", tmp_path / "other")


def test_a_parquet_file_of_others_has_bytes_and_names(tmp_path):
  table = pyarrow.table({"jpg": IMAGES, "class": ["x", "y", "x", "y", None, "x"]})
  parquet.write_table(table, tmp_path / "a.parquet")
  converted(tmp_path / "a.parquet", tmp_path / "out")
  assert sorted(files(tmp_path / "out")) == [
    "train/00000004.png",
    *(f"train/x/{i:08}.{'jpg' if i % 2 else 'png'}" for i in (0, 2, 5)),
    *(f"train/y/{i:08}.jpg" for i in (1, 3)),
  ]


def test_a_table_without_images_is_refused_with_its_columns(tmp_path):
  parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "a.parquet")
  with pytest.raises(
    ConfigError, match=r"no column of image files, only text \(string"
  ):
    converted(tmp_path, tmp_path / "out")


def write_tar(path, members, mode="w"):
  path.parent.mkdir(parents=True, exist_ok=True)
  with tarfile.open(path, mode) as tar:
    for name, content in members:
      info = tarfile.TarInfo(name)
      if content is None:
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
      else:
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


def test_shards_of_webdataset_become_class_folders(tmp_path):
  shard = tmp_path / "set/imagenet-train-000000.tar"
  write_tar(
    shard,
    [
      ("000.cls", b"7\n"),
      ("000.png", IMAGES[0]),
      ("000.json", b"{}"),
      ("001.jpg", IMAGES[1]),
      ("001.seg.png", IMAGES[2]),
      ("001.cls", b"8"),
    ],
  )
  write_tar(
    tmp_path / "set/imagenet-train-000001.tar.gz",
    [
      ("a/000.PNG", IMAGES[2]),
      ("a/000.json", b'{"label": "dog"}'),
      ("b/000.jpg", IMAGES[3]),
      ("b/000.json", b"["),
      ("../../escape.png", IMAGES[4]),
      ("link.png", None),
      ("notes.txt", b"x"),
    ],
    "w:gz",
  )
  write_tar(tmp_path / "set/imagenet-val-000000.tar", [("0.jpg", IMAGES[1])])
  told = converted(tmp_path / "set", tmp_path / "out")
  assert files(tmp_path / "out") == {
    "train/7/00000000.png": IMAGES[0],
    "train/8/00000001.jpg": IMAGES[1],
    "train/dog/00000002.png": IMAGES[2],
    "train/00000003.jpg": IMAGES[3],
    "train/00000004.png": IMAGES[4],
    "val/00000000.jpg": IMAGES[1],
  }
  assert not (tmp_path / "escape.png").exists()
  assert "5 images, 3 classes; 2 of them without a label" in told


def prepare_build(folder, file_format):
  features = {
    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
    "label": tfds.features.ClassLabel(names=CLASSES),
  }
  levels = np.arange(4, dtype=np.uint8)
  pixels = np.broadcast_to(levels[:, None, None, None], (4, 8, 8, 3))
  rows = [(i, {"image": pixels[i], "label": i}) for i in range(4)]
  tfds.dataset_builders.store_as_tfds_dataset(
    name="small",
    version="1.0.0",
    features=tfds.features.FeaturesDict(features),
    split_datasets={"train": rows},
    data_dir=str(folder),
    config="default",
    download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    file_format=file_format,
  )


def test_a_build_of_tfds_in_its_default_format_becomes_class_folders(tmp_path):
  prepare_build(tmp_path, "tfrecord")
  converted(tmp_path / "small", tmp_path / "out")
  levels = {
    name.split("/")[1]: int(np.asarray(Image.open(io.BytesIO(content)))[0, 0, 0])
    for name, content in files(tmp_path / "out").items()
  }
  assert levels == {folder: i for i, folder in enumerate(FOLDERS[:4])}


def test_a_build_that_can_be_read_at_random_is_left_as_it_is(tmp_path):
  prepare_build(tmp_path, "array_record")
  with pytest.raises(ConfigError, match=r"data.source=tfds, data.tfds_name=small"):
    converted(tmp_path / "small", tmp_path / "out")


def test_of_several_builds_one_is_to_be_chosen(tmp_path):
  for name in ("a", "b"):
    (tmp_path / name).mkdir()
    (tmp_path / name / "features.json").touch()
  with pytest.raises(ConfigError, match="several sets, choose one"):
    converted(tmp_path, tmp_path / "out")


def test_a_record_that_is_no_image_is_left_out_and_said(tmp_path):
  bomb = bytearray(IMAGES[0])
  bomb[16:24] = b"\x00\x01\x00\x00" * 2  # 65,536 × 65,536 pixels
  table = pyarrow.table({"image": [IMAGES[0], b"no image", None, bytes(bomb)]})
  parquet.write_table(table, tmp_path / "a.parquet")
  told = converted(tmp_path / "a.parquet", tmp_path / "out")
  assert files(tmp_path / "out") == {"train/00000000.png": IMAGES[0]}
  assert "3 records are no image, or of more than 178,956,970 pixels" in told
  assert "labels: none" in told


def test_what_is_there_is_not_written_over_and_a_failure_leaves_nothing(tmp_path):
  parquet.write_table(hugging_face_table(), tmp_path / "train.parquet")
  (tmp_path / "full").mkdir()
  (tmp_path / "full/mine").touch()
  with pytest.raises(ConfigError, match="is there already"):
    converted(tmp_path / "train.parquet", tmp_path / "full")
  (tmp_path / "broken").mkdir()
  (tmp_path / "broken/train.tar").write_bytes(b"no tar")
  with pytest.raises(ConfigError, match="broken"):
    converted(tmp_path / "broken", tmp_path / "out")
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {"train.parquet", "full", "broken"}


def test_what_is_no_packed_set_is_refused_with_those_that_are_known(tmp_path):
  with pytest.raises(ConfigError, match=r"save_to_disk, parquet, WebDataset"):
    converted(tmp_path, tmp_path / "out")
  with pytest.raises(ConfigError, match="there is no"):
    converted(tmp_path / "none", tmp_path / "out")
