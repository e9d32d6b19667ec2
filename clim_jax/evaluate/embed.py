"""Features of a folder of images, for whatever else they are wanted for."""

from collections.abc import Callable, Iterable

import jax
import numpy as np
import pyarrow
from etils import epath
from jax.sharding import Mesh
from pyarrow import parquet
from rich.console import Console

from clim_jax.data.sources import folder_source
from clim_jax.evaluate.embedding_atlas import check_count, image_columns, map_columns
from clim_jax.evaluate.features import extract
from clim_jax.experiment.cautions import tell_of
from clim_jax.experiment.configuration import ConfigError
from clim_jax.experiment.experiment import evaluation_crop, exclusion_of
from clim_jax.experiment.runs import Trained
from clim_jax.models.resnet import feature_dim
from clim_jax.whole import written_whole

SUFFIXES = (".npz", ".parquet")


def embed(
  trained: Trained,
  mesh: Mesh,
  folder: str,
  output: epath.Path,
  console: Console,
  track: Callable[[Iterable], Iterable],
  *,
  atlas: bool = False,
) -> tuple[int, int]:
  """Writes features, projections and file names, a row an image.

  Features are the backbone's, pooled, [N, F] float32, not normalised; projections are
  of unit norm, [N, D] float32; files are relative to the folder, in sorted order.

  Args:
    trained: the encoder, and in its config crop, batch size, what to do with bad
      images. A random projection is left out.
    mesh: devices.
    folder: of images, or of folders of images.
    output: `.npz` with arrays `features`, `projections` and `files`, or `.parquet`
      with columns of these names.
    console: told what is passed over.
    track: shows how far it is.
    atlas: to a `.parquet` add what embedding-atlas shows: `x`, `y`, `neighbors`,
      `image` and `folder`.

  Returns:
    How many images were written, and how many could not be decoded and are left out.

  Raises:
    ConfigError: no images there, another kind of output, or too many for `atlas`.
    BadImageError: an image cannot be decoded and is not to be skipped.
  """
  if output.suffix not in SUFFIXES:
    raise ConfigError(f"--output {output} must end in {' or '.join(SUFFIXES)}")
  if atlas and output.suffix != ".parquet":
    raise ConfigError(f"--atlas makes a table: --output {output} must end in .parquet")
  config = trained.config
  try:
    source, paths = folder_source(
      folder,
      on_bad_image=config.data.on_bad_image,
      white_level=config.data.white_level,
      max_pixels=config.data.max_pixels,
      exclude=exclusion_of(config.data, folder),
    )
  except (ValueError, OSError) as error:
    raise ConfigError(f"--input: {error}") from error
  tell_of(console, source)
  if atlas:
    check_count(source.num_images)
  rows = extract(
    mesh,
    trained.subject,
    source,
    evaluation_crop(config),
    batch_size=config.evaluation.batch_size,
    layers=("features", "embedding"),
    track=track,
  )
  # What was seen in place of a bad image is not its feature.
  good = np.setdiff1d(np.arange(source.num_images), list(source.stand_ins))
  files = [paths[image].removeprefix(folder.rstrip("/") + "/") for image in good]
  width = feature_dim(config.model.backbone, config.model.width)
  features, projections = np.split(rows[good], [width], axis=1)
  columns = {"features": features}
  if trained.has_projection:
    columns["projections"] = projections
  shown = {}
  if atlas:
    shown = map_columns(features) | image_columns(
      mesh, source, good, files, evaluation_crop(config), config.evaluation.batch_size
    )
  if jax.process_index() == 0:
    _write(output, files, columns, shown)
  return len(good), len(source.stand_ins)


def _write(
  output: epath.Path,
  files: list[str],
  columns: dict[str, np.ndarray],
  shown: dict[str, pyarrow.Array],
) -> None:
  output.parent.mkdir(parents=True, exist_ok=True)
  with written_whole(output) as beside, beside.open("wb") as file:
    if output.suffix == ".npz":
      np.savez(file, files=np.array(files), **columns)
      return
    lists = {name: _lists(rows) for name, rows in columns.items()}
    parquet.write_table(pyarrow.table({"files": files} | shown | lists), file)


def _lists(rows: np.ndarray) -> pyarrow.FixedSizeListArray:
  return pyarrow.FixedSizeListArray.from_arrays(rows.ravel(), rows.shape[1])
