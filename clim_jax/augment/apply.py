"""Photometric augmentation on the device: jitter, grayscale, blur, solarize, flip.

The order is that of MoCo v2 (Chen et al. 2020, arXiv 2003.04297), solarization that of
BYOL (Grill et al. 2020, arXiv 2006.07733). Every op is written for one image, [S, S, 3]
float32 in [0, 1], and `augment` alone maps them over the batch.

Under `vmap` a branch on a traced value computes both sides, so an op that is drawn with
probability p costs the same for every p > 0; at 0, a static value, it is left out. On a
TPU one kernel takes its place, in which an image pays for what it draws.
"""

import functools

import jax
import jax.numpy as jnp

from clim_jax.augment import kernel
from clim_jax.augment.photometric import (
  adjust_hue,
  blend,
  flip_horizontally,
  gaussian_blur,
  luma,
  solarize,
  to_grayscale,
)
from clim_jax.augment.policy import BRIGHTNESS, CONTRAST, HUE, Draws, Policy, draw


@jax.named_scope("augment")  # so that profiles and benchmarks can tell its cost
def augment(rngs: jax.Array, images: jax.Array, policy: Policy) -> jax.Array:
  """Augments every image of a batch by draws of its own.

  One key per image: the result does not depend on how the batch is split over devices.

  Args:
    rngs: typed PRNG keys, [B].
    images: [B, S, S, 3] uint8.
    policy: static.

  Returns:
    [B, S, S, 3] float32 in [0, 1].

  Raises:
    ValueError: the shapes disagree, or the images are not uint8 RGB.
  """
  if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != jnp.uint8:
    raise ValueError(f"images {images.dtype}{images.shape}: not uint8 [B, S, S, 3]")
  if rngs.shape != images.shape[:1]:
    raise ValueError(f"rngs {rngs.shape} must hold one key for each of {len(images)}")
  by_ops = functools.partial(_by_ops, policy=policy)
  if policy.implementation == "xla" or images.shape[1] > kernel.LARGEST_SIDE:
    return by_ops(rngs, images)
  by_kernel = functools.partial(_by_kernel, policy=policy)
  return jax.lax.platform_dependent(rngs, images, tpu=by_kernel, default=by_ops)


def _by_kernel(rngs: jax.Array, images: jax.Array, *, policy: Policy) -> jax.Array:
  draws = jax.vmap(functools.partial(draw, policy=policy))(rngs)
  return kernel.apply(images, draws, policy=policy)


def _by_ops(rngs: jax.Array, images: jax.Array, *, policy: Policy) -> jax.Array:
  def augment_one(rng: jax.Array, image: jax.Array) -> jax.Array:
    return apply_draws(image, draw(rng, policy), policy)

  if not policy.images_at_once:
    return jax.vmap(augment_one)(rngs, images)
  return jax.lax.map(
    lambda one: augment_one(*one), (rngs, images), batch_size=policy.images_at_once
  )


def apply_draws(image: jax.Array, draws: Draws, policy: Policy) -> jax.Array:
  """One image, [S, S, 3] uint8, with its draws → [S, S, 3] float32 in [0, 1]."""
  radius = policy.blur_radius(len(image))
  ops = (
    (draws.jitters, lambda image: jitter(image, *draws.adjustments)),
    (draws.grays, to_grayscale),
    (draws.blurs, lambda image: gaussian_blur(image, draws.sigma, radius=radius)),
    (draws.solarizes, lambda image: solarize(image, policy.solarize_threshold)),
    (draws.flips, flip_horizontally),
  )
  image = image.astype(jnp.float32) / 255.0
  for happens, op in ops:
    if happens is not None:
      image = jnp.where(happens, op(image), image)
  return image


def jitter(
  image: jax.Array, order: jax.Array, factors: jax.Array, shift: jax.Array | None
) -> jax.Array:
  """Adjusts brightness, contrast, saturation and hue in the given order.

  A switch under `vmap` would run all four ops in each of four turns. Three of them are
  blends that differ in their target only, and a blend of factor 1 is the identity: so
  the blends due before hue take their turns, then hue is shifted once, then the others.

  Args:
    image: [S, S, 3] float32 in [0, 1].
    order, factors, shift: see `policy.Jitter`.

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
