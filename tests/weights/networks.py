"""Networks with random weights, and what ours computes with them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from clim_jax.models.encoder import Encoder
from clim_jax.models.operations import FOR_CPU
from clim_jax.models.resnet import ARCHITECTURES
from clim_jax.weights.spec import Network, Preprocessing

TINY = Network("resnet_small", "cifar", 4)
SMALL = Network("resnet_small", "imagenet", 4)
RESNET18 = Network("resnet18", "imagenet", 64)
RESNET50 = Network("resnet50", "imagenet", 64)
# One of each kind of block, as narrow as can be.
NARROW18, NARROW50 = (Network(n, "imagenet", 4) for n in ("resnet18", "resnet50"))
EVERY = [
  Network(backbone, stem, width)
  for backbone in ARCHITECTURES
  for stem in ("imagenet", "cifar")
  for width in (2, 3)
]
PREPROCESSING = Preprocessing(32, 0.875, (0.4, 0.45, 0.5), (0.2, 0.25, 0.3))
HIDDEN, DIM = 16, 8
TOLERANCE = 1e-4  # of the largest feature: two libraries' float32 sums


def encoder(network):
  return Encoder(
    backbone=network.backbone,
    stem=network.stem,
    width=network.width,
    hidden_dim=HIDDEN,
    embedding_dim=DIM,
    groups=1,
    pixel_mean=PREPROCESSING.pixel_mean,
    pixel_std=PREPROCESSING.pixel_std,
    operations=FOR_CPU,
    dtype=jnp.float32,
  )


@functools.cache
def shapes(network):
  """params and batch_stats, of `jax.ShapeDtypeStruct`."""
  init = functools.partial(encoder(network).init, train=False)
  images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
  variables = jax.eval_shape(init, jax.random.key(0), images)
  return variables["params"], variables["batch_stats"]


def variables(network, seed=0):
  """Both trees with random leaves, scales and running statistics included."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    name, shape = path[-1].key, leaf.shape
    if name == "kernel":  # He et al.'s, so that activations neither grow nor vanish
      values = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1]))
    elif name in ("scale", "var"):
      values = rng.uniform(0.5, 1.5, shape)
    else:
      values = rng.uniform(-0.3, 0.3, shape)
    return values.astype(np.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes(network))


def images(network=RESNET18):
  side = 64 if network.stem == "imagenet" else 8
  return np.random.default_rng(9).random((2, side, side, 3)).astype(np.float32)


def normalised(pixels):
  """What other libraries are fed: [B, 3, S, S], minus the mean, by the deviation."""
  mean, std = np.float32(PREPROCESSING.pixel_mean), np.float32(PREPROCESSING.pixel_std)
  return np.ascontiguousarray(((pixels - mean) / std).transpose(0, 3, 1, 2))


@functools.cache
def _features(network):
  @jax.jit
  def apply(params, batch_stats, pixels):
    variables = {"params": params, "batch_stats": batch_stats}
    return encoder(network).apply(variables, pixels, train=False).features

  return apply


def features(network, params, batch_stats, pixels=None):
  pixels = images(network) if pixels is None else pixels
  return np.asarray(_features(network)(params, batch_stats, pixels))


def relative_difference(found, expected):
  return np.abs(found - expected).max() / np.abs(expected).max()


def assert_features_agree(found, expected):
  assert found.shape == expected.shape
  assert np.abs(expected).max() > 0.01
  difference = relative_difference(found, expected)
  print(f"largest relative difference {difference:.1e}")  # shown by pytest -rP
  assert difference <= TOLERANCE


def assert_same_bits(found, expected):
  """Of trees or dicts of arrays: structure, types and every bit."""
  found, expected = (jax.tree.map(np.asarray, tree) for tree in (found, expected))
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    assert (one.dtype, one.shape) == (other.dtype, other.shape)
    assert one.tobytes() == other.tobytes()
