"""Features of whole sets of images: for selection, for probes, and raw pixels."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from clim_jax import sharding
from clim_jax.data.crops import CenterCrop
from clim_jax.data.pipeline import evaluation_batches
from clim_jax.data.sources import Source
from clim_jax.experiment import Experiment
from clim_jax.models.encoder import unit_norm
from clim_jax.selection.bank import BankBuilder


class FeatureExtractor:
  """Unit-norm pooled backbone features, in evaluation mode, of one source."""

  def __init__(self, experiment: Experiment, source: Source) -> None:
    self._source, self._mesh = source, experiment.mesh
    self._crop = experiment.evaluation_crop
    encoder = experiment.encoder

    def embed(variables: Any, images: jax.Array) -> jax.Array:
      pixels = images.astype(jnp.float32) / 255.0
      return unit_norm(encoder.apply(variables, pixels, train=False).features)

    self._builder = BankBuilder(
      experiment.mesh,
      embed,
      num_images=source.num_images,
      dim=experiment.feature_dim,
      batch_size=experiment.config.evaluation.batch_size,
    )

  def abstract_bank(self) -> jax.ShapeDtypeStruct:
    """Shape, dtype and sharding of `bank`, which is not computed."""
    return self._builder.abstract()

  def bank(self, params: Any, stats: Any) -> jax.Array:
    """Of every image in order, rows sharded, [N_pad, F] float32."""
    ids = self._builder.image_ids()
    rows = sharding.process_rows(self._mesh, ids.shape[1])
    batches = evaluation_batches(self._source, ids, self._crop, rows)
    return self._builder({"params": params, "batch_stats": stats}, batches)

  def array(self, params: Any, stats: Any) -> np.ndarray:
    """The same on the host, without padding, [N, F] float32."""
    return sharding.to_host(self.bank(params, stats))[: self._source.num_images]


def raw_pixels(source: Source, crop: CenterCrop, *, batch_size: int) -> np.ndarray:
  """Unit-norm pixels of the evaluation crops, [N, S·S·3] float32: no network."""
  ids = np.arange(-(-source.num_images // batch_size) * batch_size)
  ids = np.minimum(ids, source.num_images - 1).reshape(-1, batch_size)
  batches = evaluation_batches(source, ids, crop, slice(0, batch_size))
  pixels = np.concatenate([b.reshape(len(b), -1) for b in batches])
  return np.asarray(unit_norm(pixels[: source.num_images] / np.float32(255)))
