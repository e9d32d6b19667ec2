"""Columns by which Apple's embedding-atlas shows a table of images as a map."""

import io
import os
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow
from jax.sharding import Mesh
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from clim_jax import sharding
from clim_jax.data.batches import evaluation_batches
from clim_jax.data.crops import CenterCrop
from clim_jax.data.source import Source
from clim_jax.evaluate.features import normalise
from clim_jax.experiment.error import ConfigError

MOST_IMAGES = 100_000  # all are compared with all
_NEIGHBOURS = 20
_MOST_PIXELS = 64  # of a thumbnail's side
_QUALITY = 85  # of its JPEG


def check_count(images: int) -> None:
  """Raises ConfigError for sets that cannot be shown so."""
  if not 3 <= images <= MOST_IMAGES:
    raise ConfigError(
      f"--atlas compares all images with all: it takes 3 to {MOST_IMAGES:,}, and there "
      f"are {images:,}; leave it out, or embed a part of the folder"
    )


def map_columns(features: np.ndarray) -> dict[str, pyarrow.Array]:
  """Where images lie and what they are near.

  Args:
    features: [N, F] float32, at least three rows.

  Returns:
    `x` and `y`, along the two main directions of unit-norm features, and `neighbors`,
    the rows nearest by cosine as `ids` and `distances`, nearest first.
  """
  unit = normalise(features.copy())
  places = PCA(2, svd_solver="covariance_eigh").fit_transform(unit)
  count = min(_NEIGHBOURS, len(unit) - 1)
  apart, ids = NearestNeighbors(n_neighbors=count).fit(unit).kneighbors()
  fields = {"ids": _lists(ids), "distances": _lists((apart**2 / 2).astype(np.float32))}
  neighbours = pyarrow.StructArray.from_arrays(list(fields.values()), list(fields))
  return {"x": places[:, 0], "y": places[:, 1], "neighbors": neighbours}


def image_columns(
  mesh: Mesh,
  source: Source,
  ids: np.ndarray,
  files: Sequence[str],
  crop: CenterCrop,
  batch_size: int,
) -> dict[str, pyarrow.Array]:
  """What images look like, and where they come from.

  Args:
    mesh: devices, which share out the rows of a batch.
    source: the images.
    ids: those shown, [N] int.
    files: their names, with the folders they lie in.
    crop: what of an image is shown, as the encoder sees it, or smaller.
    batch_size: over all devices.

  Returns:
    `image`, encoded as Hugging Face has it, and `folder`, to colour by.
  """
  crop = crop._replace(side=min(crop.side, _MOST_PIXELS))
  encoded = list(_thumbnails(mesh, source, ids, crop, batch_size))
  fields = {"bytes": pyarrow.array(encoded), "path": pyarrow.array(files)}
  return {
    "image": pyarrow.StructArray.from_arrays(list(fields.values()), list(fields)),
    "folder": pyarrow.array([os.path.dirname(name) for name in files]),
  }


def _thumbnails(
  mesh: Mesh, source: Source, ids: np.ndarray, crop: CenterCrop, batch_size: int
) -> Iterator[bytes]:
  turns = -(-len(ids) // batch_size)
  padded = np.resize(ids, (turns, batch_size))  # repeats them from the first
  left = len(ids)
  for batch in evaluation_batches(mesh, source, padded, crop):
    for pixels in sharding.to_host(batch)[:left]:
      file = io.BytesIO()
      Image.fromarray(pixels).save(file, "jpeg", quality=_QUALITY)
      yield file.getvalue()
    left -= batch_size


def _lists(rows: np.ndarray) -> pyarrow.ListArray:
  ends = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
  return pyarrow.ListArray.from_arrays(ends, rows.ravel())
