"""The encoder of a run, for Python programs."""

from typing import Any

import numpy as np

from clim_jax import launch, sharding
from clim_jax.api.arguments import (
  PathLike,
  dotted,
  folder_of,
  is_path,
  load_config,
  source_of,
)
from clim_jax.data.sources import folder_source
from clim_jax.evaluate.features import extract
from clim_jax.experiment import keys
from clim_jax.experiment.configuration import Overrides
from clim_jax.experiment.error import ConfigError
from clim_jax.experiment.experiment import evaluation_crop, exclusion_of
from clim_jax.experiment.limits import check_evaluation
from clim_jax.experiment.runs import Trained, open_run
from clim_jax.models.resnet import feature_dim


class Encoder:
  """The encoder of a run: images in, features out. `load` makes one."""

  def __init__(self, trained: Trained) -> None:
    self._trained = trained
    self._mesh = sharding.make_mesh()

  @property
  def dim(self) -> int:
    """How many features an image has."""
    model = self._trained.config.model
    return feature_dim(model.backbone, model.width)

  def embed(self, images: PathLike | np.ndarray) -> np.ndarray:
    """Pooled features of the backbone, not normalised, [N, dim] float32.

        encoder = clim_jax.load("runs/mine")
        features = encoder.embed(images)
        features = encoder.embed("photos")  # rows as in encoder.files("photos")

    Args:
      images: uint8 [N, H, W] or [N, H, W, 3], of any size, or a folder.

    Raises:
      ConfigError: these are no images.
      BadImageError: a file cannot be decoded. With
        `load(run, data__on_bad_image="skip")` its row is NaN instead.
    """
    source = self._folder(images)[0] if is_path(images) else source_of(images, None)
    settings = self._trained.config
    rows = extract(
      self._mesh,
      self._trained.subject,
      source,
      evaluation_crop(settings),
      batch_size=settings.evaluation.batch_size,
    )
    rows[list(source.stand_ins)] = np.nan
    return rows

  def files(self, folder: PathLike) -> list[str]:
    """The paths of the images that `embed` finds in a folder, in its order."""
    return self._folder(folder)[1]

  def _folder(self, folder: PathLike) -> Any:
    path, data = str(folder_of(folder)), self._trained.config.data
    try:
      return folder_source(
        path,
        on_bad_image=data.on_bad_image,
        white_level=data.white_level,
        max_pixels=data.max_pixels,
        exclude=exclusion_of(data, path),
      )
    except (ValueError, OSError) as error:
      raise ConfigError(str(error)) from error


def load(run: PathLike, **overrides: Any) -> Encoder:
  """The encoder of a run.

      encoder = clim_jax.load("runs/mine")
      features = encoder.embed(images)  # [N, encoder.dim] float32

  Args:
    run: its folder.
    **overrides: keys of the sections `evaluation` and `data`, such as
      `evaluation__step=200` or `evaluation__encoder="key"`.

  Raises:
    ConfigError: there is no run or no such checkpoint, or a key is of its training.
  """
  asked, values = load_config("base"), dotted(overrides)
  keys.override(asked, values)
  launch.prepare()
  mesh, changed = sharding.make_mesh(), Overrides(False, tuple(values))
  trained = open_run(asked, folder_of(run), mesh, changed)
  check_evaluation(trained.config, devices=mesh.devices.size)
  return Encoder(trained)


def embed(run: PathLike, images: PathLike | np.ndarray, **overrides: Any) -> np.ndarray:
  """Features of images by the encoder of a run, [N, dim] float32.

      features = clim_jax.embed("runs/mine", images)

  Short for `load(run, **overrides).embed(images)`, which says the rest.
  """
  return load(run, **overrides).embed(images)
