"""The encoder: pixels to pooled features and to a unit embedding."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from clim_jax.models.operations import Operations
from clim_jax.models.resnet import ARCHITECTURES, ResNet


class Encoded(NamedTuple):
  features: jax.Array  # pooled backbone features, [B, F] float32
  hidden: jax.Array  # of the projection, after its ReLU, [B, H] float32
  embedding: jax.Array  # unit-norm projection, [B, D] float32


LAYERS = Encoded._fields


def unit_norm(x: jax.Array) -> jax.Array:
  """Rows of x, [..., D], divided by their L2 norm; zero rows stay zero."""
  # The bound stands inside the root, whose gradient at 0 is infinite.
  squared = jnp.sum(x * x, axis=-1, keepdims=True)
  return x / jnp.sqrt(jnp.maximum(squared, 1e-24))


class Encoder(nn.Module):
  """A ResNet and MoCo v2's projection: linear, ReLU, linear, L2 norm.

  Pixel normalisation lives here, so that training and evaluation cannot differ.
  """

  backbone: str  # a name in ARCHITECTURES
  stem: str
  width: int
  hidden_dim: int
  embedding_dim: int
  groups: int
  pixel_mean: tuple[float, float, float]
  pixel_std: tuple[float, float, float]
  operations: Operations
  dtype: Any

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> Encoded:
    """Images in [0, 1], [B, S, S, 3] float32."""
    mean, std = jnp.asarray(self.pixel_mean), jnp.asarray(self.pixel_std)
    images = (images - mean[None, None, None]) / std[None, None, None]
    block, stage_sizes = ARCHITECTURES[self.backbone]
    features = ResNet(
      block,
      stage_sizes,
      self.stem,
      self.width,
      self.groups,
      self.operations,
      self.dtype,
      name="backbone",
    )(images, train=train)
    hidden = nn.relu(_dense(features, self.hidden_dim, self.dtype, "projection1"))
    projected = _dense(hidden, self.embedding_dim, self.dtype, "projection2")
    embedding = unit_norm(projected.astype(jnp.float32))
    return Encoded(features, hidden.astype(jnp.float32), embedding)


def _dense(x: jax.Array, features: int, dtype: Any, name: str) -> jax.Array:
  """With PyTorch's default initialisation, which MoCo's head relies on."""
  bound = x.shape[-1] ** -0.5

  def uniform(rng: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return jax.random.uniform(rng, shape, dtype, -bound, bound)

  dense = nn.Dense(
    features, dtype=dtype, kernel_init=uniform, bias_init=uniform, name=name
  )
  return dense(x)
