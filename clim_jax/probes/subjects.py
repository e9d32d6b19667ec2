"""What is judged: a trained encoder, and what an untrained one and raw pixels reach."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from clim_jax import sharding
from clim_jax.models.encoder import Encoder
from clim_jax.models.norm import GroupedBatchNorm

REFERENCES = ("untrained", "raw_pixels")


class RawPixels(NamedTuple):
  """The encoder that does nothing: pixels in [0, 1] are the features."""

  max_side: int  # images are shown to it at most this large


class Subject(NamedTuple):
  """An encoder with its parameters."""

  name: str
  encoder: Encoder | RawPixels
  variables: Any  # {"params": …, "batch_stats": …}; empty trees for raw pixels

  def side(self, asked: int) -> int:
    """At which side it is shown images."""
    is_raw = isinstance(self.encoder, RawPixels)
    return min(asked, self.encoder.max_side) if is_raw else asked


def apply(
  encoder: Encoder | RawPixels,
  variables: Any,
  images: jax.Array,
  *,
  layer: str = "features",
  train: bool = False,
) -> tuple[jax.Array, Any]:
  """Features and the new running statistics.

  Args:
    encoder: static.
    variables: of the encoder.
    images: [B, S, S, 3] uint8.
    layer: one of `LAYERS`; raw pixels have one layer.
    train: whether batch normalisation uses and follows the statistics of the batch.

  Returns:
    [B, F] float32, and the tree of `variables["batch_stats"]`.
  """
  pixels = images.astype(jnp.float32) / 255.0
  if isinstance(encoder, RawPixels):
    return pixels.reshape(len(pixels), -1), variables["batch_stats"]
  if not train:
    encoded = encoder.apply(variables, pixels, train=False)
    return getattr(encoded, layer), variables["batch_stats"]
  encoded, updated = encoder.apply(
    variables, pixels, train=True, mutable=["batch_stats"]
  )
  return getattr(encoded, layer), updated["batch_stats"]


def raw_pixels(max_side: int) -> Subject:
  return Subject("raw_pixels", RawPixels(max_side), {"params": {}, "batch_stats": {}})


def untrained(
  mesh: Mesh, encoder: Encoder, variables: Any, images: Iterator[np.ndarray]
) -> Subject:
  """A network at its initialisation, normalised by the statistics of some images.

  Without them its activations would double from block to block, and a reference that
  is badly scaled would make every trained figure look good.

  Args:
    mesh: devices.
    encoder: with one batch-normalisation group.
    variables: at initialisation.
    images: this process's rows of a batch, [b, S, S, 3] uint8; the first is used.
  """

  def measure(variables: Any, images: jax.Array) -> Any:
    # From zero, one update leaves the share that is new: the batch's own statistics.
    zero = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
    _, stats = apply(encoder, variables | {"batch_stats": zero}, images, train=True)
    return jax.tree.map(lambda x: x / (1 - GroupedBatchNorm.momentum), stats)

  stats = jax.jit(measure, out_shardings=sharding.replicated(mesh))(
    variables, sharding.put_rows(mesh, next(images))
  )
  return Subject("untrained", encoder, variables | {"batch_stats": stats})
