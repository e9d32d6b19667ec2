"""Features of whole sets of images: for selection and for probes."""

import collections
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from clim_jax import sharding
from clim_jax.data.batches import evaluation_batches
from clim_jax.data.crops import CenterCrop
from clim_jax.data.source import ArraySource, Source, with_stand_ins
from clim_jax.experiment.experiment import Experiment, evaluation_crop
from clim_jax.models.encoder import Encoder, unit_norm
from clim_jax.probes.subjects import RawPixels, Subject, apply
from clim_jax.selection.bank import BankBuilder

_AHEAD = 2  # batches under way on the device while an earlier one is fetched


class FeatureExtractor:
  """Unit-norm pooled backbone features, in evaluation mode, of one source."""

  def __init__(self, experiment: Experiment, source: Source) -> None:
    self._source, self._mesh = source, experiment.mesh
    self._crop = evaluation_crop(experiment.config)
    encoder = experiment.encoder

    def embed(variables: Any, images: jax.Array) -> jax.Array:
      return unit_norm(apply(encoder, variables, images)[0])

    self._builder = BankBuilder(
      experiment.mesh,
      embed,
      num_images=source.num_images,
      dim=experiment.feature_dim,
      batch_size=experiment.config.evaluation.batch_size,
    )

  def bank(self, params: Any, stats: Any) -> jax.Array:
    """Of every image in order, rows sharded, [N_pad, F] float32."""
    ids = self._builder.image_ids()
    batches = evaluation_batches(self._mesh, self._source, ids, self._crop)
    return self._builder({"params": params, "batch_stats": stats}, batches)


@functools.cache
def compiled(
  mesh: Mesh, encoder: Encoder | RawPixels, layers: tuple[str, ...]
) -> Callable[[Any, jax.Array], jax.Array]:
  """(variables, uint8 images [B, S, S, 3]) → the layers' features side by side.

  One program for all sets and all parameters of an encoder; rows sharded.
  """

  def embed(variables: Any, images: jax.Array) -> jax.Array:
    parts = [apply(encoder, variables, images, layer=layer)[0] for layer in layers]
    return jnp.concatenate(parts, axis=1)

  return sharding.spmd(
    embed, mesh, in_specs=(sharding.REPLICATED, sharding.ROWS), out_specs=sharding.ROWS
  )


def extract(
  mesh: Mesh,
  subject: Subject,
  source: Source,
  crop: CenterCrop,
  *,
  batch_size: int,
  layers: tuple[str, ...] = ("features",),
  track: Callable[[Iterable], Iterable] = iter,
) -> np.ndarray:
  """Features of every image in order, [N, F] float32, as the layers give them.

  Args:
    mesh: devices, among which the rows of a batch are shared out.
    subject: the encoder.
    source: the images.
    crop: the evaluation crop.
    batch_size: over all devices.
    layers: of `LAYERS`; several stand side by side.
    track: wraps the batches to show how far they are.
  """
  embed = compiled(mesh, subject.encoder, layers)
  # Whole batches; padding repeats the last image.
  ids = np.arange(-(-source.num_images // batch_size) * batch_size)
  ids = np.minimum(ids, source.num_images - 1).reshape(-1, batch_size)
  crop = crop._replace(side=subject.side(crop.side))
  under_way: collections.deque[tuple[int, jax.Array]] = collections.deque()
  out: np.ndarray | None = None

  def fetch() -> None:
    """Puts the oldest batch in its place: 1.28 M rows are to be held but once."""
    nonlocal out
    turn, features = under_way.popleft()
    rows = sharding.to_host(features)
    if out is None:
      out = np.empty((len(ids) * batch_size, rows.shape[1]), np.float32)
    out[turn * batch_size :][:batch_size] = rows

  for turn, images in zip(
    track(range(len(ids))), evaluation_batches(mesh, source, ids, crop), strict=True
  ):
    features = embed(subject.variables, images)
    under_way.append((turn, features))
    if turn >= _AHEAD:
      fetch()
  while under_way:
    fetch()
  _share_stand_ins(source)
  return out[: source.num_images]


def _share_stand_ins(source: Source) -> None:
  """Tells every process of the bad images that others have met."""
  if jax.process_count() == 1 or isinstance(source, ArraySource):
    return
  seen = with_stand_ins(source, np.arange(source.num_images))
  for other in multihost_utils.process_allgather(seen):
    bad = np.flatnonzero(other != np.arange(source.num_images))
    source.stand_ins.update({int(image): int(other[image]) for image in bad})


def normalise(rows: np.ndarray) -> np.ndarray:
  """Divides rows by their L2 norm, in place and on the host; zero rows stay zero."""
  norms = np.sqrt(np.einsum("nf,nf->n", rows, rows))
  rows /= np.maximum(norms, 1e-12)[:, None]
  return rows
