"""Makes the parts of data sets that the ablation trains on, once, below a folder.

CIFAR-10 as JPEG bytes: `jpeg` uint8 [bytes], `offset` int64 [N + 1], `label` [N].
"""

import io
import pathlib
import zipfile

import numpy as np
from PIL import Image

from clim_jax.data.sources import load_source
from clim_jax.experiment.configuration import load

TRAIN_A_CLASS, TEST_A_CLASS = 500, 200


def prepare(raw: pathlib.Path | None, out: pathlib.Path) -> None:
  """Writes what is not there yet.

  Args:
    raw: has cifar10_{train,test}_jpegbytes.npz and imagenette96_small.zip; None: the
      digits alone.
    out: gets digits_train.npz, the images that the digits train on;
      cifar10_part/{train,test}.npz and imagenette96_small/{train,val}.npz.
  """
  out.mkdir(parents=True, exist_ok=True)
  if not (out / "digits_train.npz").exists():
    images, labels = digits_train()
    np.savez(out / "digits_train.npz", image=images, label=labels)
  if raw is not None:
    _prepare_photographs(raw, out)


def digits_train() -> tuple[np.ndarray, np.ndarray]:
  """The images that `configs/digits.py` trains on, [N, 8, 8, 3] uint8, and labels."""
  train, _ = load_source(
    "digits",
    path="",
    test_path="",
    tfds_name="",
    train_split="train",
    test_split="test",
    test_fraction=load("digits").data.test_fraction,
  )
  return train.images, train.known_labels


def _prepare_photographs(raw: pathlib.Path, out: pathlib.Path) -> None:
  for split, count in (("train", TRAIN_A_CLASS), ("test", TEST_A_CLASS)):
    target = out / "cifar10_part" / f"{split}.npz"
    if not target.exists():
      target.parent.mkdir(parents=True, exist_ok=True)
      images, labels = _decoded(raw / f"cifar10_{split}_jpegbytes.npz", count)
      np.savez(target, image=images, label=labels)
  for split in ("train", "val"):
    target = out / "imagenette96_small" / f"{split}.npz"
    if not target.exists():
      target.parent.mkdir(parents=True, exist_ok=True)
      images, labels = _of_folder(raw / "imagenette96_small.zip", split)
      np.savez(target, image=images, label=labels)


def first_of_each(labels: np.ndarray, count: int) -> np.ndarray:
  """Ids of the first `count` rows of every class, ascending."""
  ids = [np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]
  return np.sort(np.concatenate(ids))


def _decoded(path: pathlib.Path, count: int) -> tuple[np.ndarray, np.ndarray]:
  packed = np.load(path)
  jpeg, offset = packed["jpeg"].tobytes(), packed["offset"]
  ids = first_of_each(packed["label"], count)
  images = [
    np.asarray(Image.open(io.BytesIO(jpeg[offset[i] : offset[i + 1]])).convert("RGB"))
    for i in ids
  ]
  return np.stack(images), packed["label"][ids]


def _of_folder(archive: pathlib.Path, split: str) -> tuple[np.ndarray, np.ndarray]:
  """Images of SPLIT/CLASS/ in an archive, all of one size, in the order of names."""
  with zipfile.ZipFile(archive) as files:
    paths = [pathlib.PurePosixPath(name) for name in sorted(files.namelist())]
    paths = [p for p in paths if p.suffix and p.parent.parent.name == split]
    images = [
      np.asarray(Image.open(io.BytesIO(files.read(str(path)))).convert("RGB"))
      for path in paths
    ]
  names = sorted({path.parent.name for path in paths})
  return np.stack(images), np.array([names.index(path.parent.name) for path in paths])
