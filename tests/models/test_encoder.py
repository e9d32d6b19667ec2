import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clim_jax.models.encoder import Encoder, unit_norm
from clim_jax.models.operations import FOR_CPU
from clim_jax.models.resnet import feature_dim

HIDDEN, DIM = 512, 32
MEAN, STD = (0.1, 0.4, 0.7), (0.2, 0.5, 0.9)


def _encoder(mean=MEAN, std=STD, dtype=jnp.float32):
  return Encoder(
    backbone="resnet_small",
    stem="cifar",
    width=4,
    hidden_dim=HIDDEN,
    embedding_dim=DIM,
    groups=1,
    pixel_mean=mean,
    pixel_std=std,
    operations=FOR_CPU,
    dtype=dtype,
  )


def _images(side=8):
  return np.random.default_rng(0).random((4, side, side, 3)).astype(np.float32)


@functools.cache
def _variables():
  """Any numbers: the true initialisation takes seconds to compile."""
  rng = np.random.default_rng(1)
  init = functools.partial(_encoder().init, train=False)
  shapes = jax.eval_shape(init, jax.random.key(0), _images())

  def draw(leaf):
    low, high = (-0.2, 0.3) if len(leaf.shape) > 1 else (0.5, 1.5)
    return rng.uniform(low, high, leaf.shape).astype(leaf.dtype)

  return jax.tree.map(draw, shapes)


@functools.cache
def _projection():
  """As initialised; what is not returned is not compiled either."""

  @jax.jit
  def init(rng, images):
    params = _encoder().init(rng, images, train=False)["params"]
    return {name: params[name] for name in ("projection1", "projection2")}

  return init(jax.random.key(0), _images())


@pytest.mark.parametrize(("side", "dtype"), [(8, jnp.float32), (5, jnp.bfloat16)])
def test_embeddings_are_unit_vectors_beside_plain_features(side, dtype):
  out = _encoder(dtype=dtype).apply(_variables(), _images(side), train=False)
  assert out.features.shape == (4, feature_dim("resnet_small", 4))
  assert out.embedding.shape == (4, DIM)
  assert out.features.dtype == out.embedding.dtype == jnp.float32
  # Normalised after the last rounding to bfloat16, so as exact as in float32.
  np.testing.assert_allclose(np.linalg.norm(out.embedding, axis=1), 1, atol=1e-6)


def test_the_embedding_is_the_two_layer_projection_of_the_features():
  out = _encoder().apply(_variables(), _images(), train=False)
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), _variables()["params"])
  first, second = params["projection1"], params["projection2"]
  hidden = np.asarray(out.features) @ first["kernel"] + first["bias"]
  assert (hidden < 0).any()
  hidden = np.maximum(hidden, 0)
  projected = hidden @ second["kernel"] + second["bias"]
  expected = projected / np.linalg.norm(projected, axis=1, keepdims=True)
  np.testing.assert_allclose(out.embedding, expected, atol=1e-6)  # float32 sums


def test_pixels_are_normalised_within():
  by_hand = ((_images() - np.float64(MEAN)) / np.float64(STD)).astype(np.float32)
  plain = _encoder(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
  expected = plain.apply(_variables(), by_hand, train=False)
  out = _encoder().apply(_variables(), _images(), train=False)
  np.testing.assert_allclose(out.features, expected.features, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(out.embedding, expected.embedding, atol=1e-5)


@pytest.mark.parametrize(
  ("name", "fan_in"), [("projection1", 16), ("projection2", HIDDEN)]
)
@pytest.mark.parametrize("kind", ["kernel", "bias"])
def test_the_projection_starts_in_pytorchs_range(name, fan_in, kind):
  # torch.nn.Linear: weights and biases uniform in ±1/√fan_in.
  values = np.asarray(_projection()[name][kind])
  bound = 1 / np.sqrt(fan_in)
  assert np.abs(values).max() <= bound
  assert np.abs(values).max() > 0.9 * bound
  # Variance of a uniform: bound²/3. At least 32 draws, whose standard deviation is
  # √(4/5/32) of that: three of them.
  assert values.var() == pytest.approx(bound**2 / 3, rel=0.5)


def test_unit_norm_keeps_zero_and_its_gradient_finite():
  x = np.float32([[3, 4], [0, 0], [1e-8, 0]])
  np.testing.assert_allclose(unit_norm(x), [[0.6, 0.8], [0, 0], [1, 0]], rtol=1e-6)
  gradient = jax.grad(lambda x: unit_norm(x).sum())(jnp.asarray(x))
  assert np.isfinite(gradient).all()
