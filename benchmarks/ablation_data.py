"""Makes the parts of data sets that the ablation trains on, once, below a folder.

CIFAR-10 as JPEG bytes: `jpeg` uint8 [bytes], `offset` int64 [N + 1], `label` [N].
"""

import io
import pathlib
import zipfile

import numpy as np
from PIL import Image

TRAIN_A_CLASS, TEST_A_CLASS = 500, 200


def prepare(raw: pathlib.Path, out: pathlib.Path) -> None:
  """Writes what is not there yet.

  Args:
    raw: has cifar10_{train,test}_jpegbytes.npz and imagenette96_small.zip.
    out: gets cifar10_part/{train,test}.npz and imagenette96_small/{train,val}/.
  """
  for split, count in (("train", TRAIN_A_CLASS), ("test", TEST_A_CLASS)):
    target = out / "cifar10_part" / f"{split}.npz"
    if not target.exists():
      target.parent.mkdir(parents=True, exist_ok=True)
      images, labels = _decoded(raw / f"cifar10_{split}_jpegbytes.npz", count)
      np.savez(target, image=images, label=labels)
  folder = out / "imagenette96_small"
  if not folder.exists():
    with zipfile.ZipFile(raw / "imagenette96_small.zip") as archive:
      inside = any(
        name.startswith("imagenette96_small/") for name in archive.namelist()
      )
      archive.extractall(out if inside else folder)


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
