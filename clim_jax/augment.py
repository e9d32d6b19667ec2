"""Photometric augmentation on the device: jitter, grayscale, blur, solarize, flip.

The order is that of MoCo v2 (Chen et al. 2020, arXiv 2003.04297), solarization that of
BYOL (Grill et al. 2020, arXiv 2006.07733). Every op is written for one image, [S, S, 3]
float32 in [0, 1], and `augment` alone maps them over the batch.

Under `vmap` a branch on a traced value computes both sides, so an op that is drawn with
probability p costs the same for every p > 0; at 0, a static value, it is left out.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from clim_jax.photometric import (
  adjust_hue,
  blend,
  flip_horizontally,
  gaussian_blur,
  luma,
  solarize,
  to_grayscale,
)

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
_PART = 64  # images mapped over at once: as many of 224 pixels as a TPU keeps on chip


@dataclasses.dataclass(frozen=True)
class Policy:
  """Probabilities and strengths of one view's augmentation.

  Hashable, so that a jitted function can close over it or take it as static.

  Raises:
    ValueError: a value outside its range.
  """

  jitter_probability: float
  brightness: float  # factor ~ U[max(0, 1 - brightness), 1 + brightness]
  contrast: float  # likewise
  saturation: float  # likewise
  hue: float  # shift ~ U[-hue, hue], a fraction of the hue circle, at most 0.5
  grayscale_probability: float
  blur_probability: float
  blur_sigma: tuple[float, float]  # sigma ~ U[low, high], in pixels at every side
  solarize_probability: float
  solarize_threshold: float  # values at or above it are inverted
  flip_probability: float

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.name.endswith("_probability") and not 0 <= value <= 1:
        raise ValueError(f"{field.name} {value} must lie in [0, 1]")
    if min(self.brightness, self.contrast, self.saturation) < 0:
      raise ValueError(f"jitter strengths must not be negative: {self}")
    if not 0 <= self.hue <= 0.5:
      raise ValueError(f"hue {self.hue} must lie in [0, 0.5]")
    low, high = self.blur_sigma
    if self.blur_probability > 0 and not 0 < low <= high:
      raise ValueError(f"blur_sigma {self.blur_sigma} must be 0 < low <= high")


@jax.named_scope("augment")  # so that profiles and benchmarks can tell its cost
def augment(rngs: jax.Array, images: jax.Array, policy: Policy) -> jax.Array:
  """Augments every image of a batch by draws of its own.

  One key per image: the result does not depend on how the batch is split over devices.

  Args:
    rngs: typed PRNG keys, [B].
    images: [B, S, S, 3] float32 in [0, 1].
    policy: static.

  Returns:
    [B, S, S, 3] float32 in [0, 1].

  Raises:
    ValueError: the shapes disagree, or the images are not float32 RGB.
  """
  if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != jnp.float32:
    raise ValueError(f"images {images.dtype}{images.shape}: not float32 [B, S, S, 3]")
  if rngs.shape != images.shape[:1]:
    raise ValueError(f"rngs {rngs.shape} must hold one key for each of {len(images)}")
  augment_one = functools.partial(_augment_image, policy=policy)
  return jax.lax.map(lambda one: augment_one(*one), (rngs, images), batch_size=_PART)


def _augment_image(rng: jax.Array, image: jax.Array, *, policy: Policy) -> jax.Array:
  jitters = any((policy.brightness, policy.contrast, policy.saturation, policy.hue))
  ops = (
    (policy.jitter_probability if jitters else 0, _random_jitter),
    (policy.grayscale_probability, lambda rng, image, policy: to_grayscale(image)),
    (policy.blur_probability, _random_blur),
    (policy.solarize_probability, _solarize_by_policy),
    (policy.flip_probability, lambda rng, image, policy: flip_horizontally(image)),
  )
  # Every op owns a key, used or not: leaving one out keeps the draws of the others.
  rngs = jax.random.split(rng, len(ops))
  for op_rng, (probability, op) in zip(rngs, ops, strict=True):
    if probability > 0:
      coin_rng, draw_rng = jax.random.split(op_rng)
      drawn = jax.random.bernoulli(coin_rng, probability)
      image = jnp.where(drawn, op(draw_rng, image, policy), image)
  return image


def _random_jitter(rng: jax.Array, image: jax.Array, policy: Policy) -> jax.Array:
  return jitter(image, *draw_jitter(rng, policy))


def _random_blur(rng: jax.Array, image: jax.Array, policy: Policy) -> jax.Array:
  low, high = policy.blur_sigma
  radius = min(math.ceil(3 * high), len(image))  # static, for the largest sigma
  sigma = jax.random.uniform(rng, minval=low, maxval=high)
  return gaussian_blur(image, sigma, radius=radius)


def _solarize_by_policy(_: jax.Array, image: jax.Array, policy: Policy) -> jax.Array:
  return solarize(image, policy.solarize_threshold)


def draw_jitter(
  rng: jax.Array, policy: Policy
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
  """Draws the arguments of `jitter` after the image.

  Args:
    rng: typed PRNG key, [].
    policy: static.

  Returns:
    order: uniform among the 24 permutations of the four ops, [4] int32.
    factors: of brightness, contrast and saturation, [3] float32.
    shift: of the hue, [] float32; None where the policy never shifts it.
  """
  order_rng, factors_rng, shift_rng = jax.random.split(rng, 3)
  strengths = jnp.array([policy.brightness, policy.contrast, policy.saturation])
  factors = jax.random.uniform(
    factors_rng, (3,), minval=jnp.maximum(0.0, 1 - strengths), maxval=1 + strengths
  )
  shift = None
  if policy.hue > 0:
    shift = jax.random.uniform(shift_rng, minval=-policy.hue, maxval=policy.hue)
  return jax.random.permutation(order_rng, 4), factors, shift


def jitter(
  image: jax.Array, order: jax.Array, factors: jax.Array, shift: jax.Array | None
) -> jax.Array:
  """Adjusts brightness, contrast, saturation and hue in the given order.

  A switch under `vmap` would run all four ops in each of four turns. Three of them are
  blends that differ in their target only, and a blend of factor 1 is the identity: so
  the blends due before hue take their turns, then hue is shifted once, then the others.

  Args:
    image: [S, S, 3] float32 in [0, 1].
    order: the op of each turn, a permutation of BRIGHTNESS .. HUE, [4] int32.
    factors: of brightness, contrast and saturation, [3] float32.
    shift: of the hue, [] float32, or None to leave hue out.

  Returns:
    [S, S, 3] float32 in [0, 1].
  """
  factors = jnp.append(factors, 1.0)[order]  # by turn; nothing is blended on hue's
  if shift is None:
    return _blend_in_turn(image, order, factors)
  turn, hue_turn = jnp.arange(4), jnp.argmax(order == HUE)
  before = jnp.where(turn < hue_turn, factors, 1.0)
  after = jnp.where(turn > hue_turn, factors, 1.0)
  # The last turn never comes before hue's, nor the first after it.
  image = _blend_in_turn(image, order[:-1], before[:-1])
  image = adjust_hue(image, shift)
  return _blend_in_turn(image, order[1:], after[1:])


def _blend_in_turn(image: jax.Array, order: jax.Array, factors: jax.Array) -> jax.Array:
  def take_turn(image: jax.Array, turn: tuple[jax.Array, jax.Array]) -> tuple:
    op, factor = turn
    gray = luma(image)
    target = jnp.where(op == CONTRAST, jnp.mean(gray), gray)
    return blend(image, jnp.where(op == BRIGHTNESS, 0.0, target), factor), None

  # A scan keeps XLA from fusing the turns, and then recomputing all of them for each
  # of their readers.
  return jax.lax.scan(take_turn, image, (order, factors))[0]
