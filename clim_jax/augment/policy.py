"""What photometric augmentation draws: which ops an image gets, in which strengths.

An op of probability 0 is left out: its draws are None, a static fact, so that neither
the draw nor the op is compiled.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
IMPLEMENTATIONS = ("auto", "xla")


@dataclasses.dataclass(frozen=True)
class Policy:
  """Probabilities and strengths of one view's augmentation, and how it is computed.

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
  implementation: str = "auto"  # auto: one kernel on TPU; xla: operations everywhere
  # That operations are mapped over; 0: all. A TPU keeps 64 of 224 pixels on the chip.
  images_at_once: int = 64

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.name.endswith("_probability") and not 0 <= value <= 1:
        raise ValueError(f"{field.name} {value} must lie in [0, 1]")
    for name in ("brightness", "contrast", "saturation"):
      if getattr(self, name) < 0:
        raise ValueError(f"{name} {getattr(self, name)} must not be negative")
    if not 0 <= self.hue <= 0.5:
      raise ValueError(f"hue {self.hue} must lie in [0, 0.5]")
    low, high = self.blur_sigma
    if self.blur_probability > 0 and not 0 < low <= high:
      raise ValueError(f"blur_sigma {self.blur_sigma} must be 0 < low <= high")
    if self.implementation not in IMPLEMENTATIONS:
      raise ValueError(
        f"implementation {self.implementation!r} must be one of {IMPLEMENTATIONS}"
      )

  def for_platform(self, platform: str) -> "Policy":
    """All images at once on a "gpu", which launches every operation of every part."""
    if platform != "gpu":
      return self
    return dataclasses.replace(self, images_at_once=0)

  def blur_radius(self, side: int) -> int:
    """Of an image of so many pixels: three of the largest sigma."""
    return min(math.ceil(3 * self.blur_sigma[1]), side)


class Jitter(NamedTuple):
  """How one image's colours are adjusted."""

  order: jax.Array  # the op of each turn, a permutation of BRIGHTNESS .. HUE, [4] int32
  factors: jax.Array  # of brightness, contrast and saturation, [3] float32
  shift: jax.Array | None  # of the hue, [] float32; None where it is never shifted


class Draws(NamedTuple):
  """Of one image: whether each op happens, [] bool, and its arguments."""

  jitters: jax.Array | None
  adjustments: Jitter | None
  grays: jax.Array | None
  blurs: jax.Array | None
  sigma: jax.Array | None  # of the blur, [] float32
  solarizes: jax.Array | None
  flips: jax.Array | None


def draw(rng: jax.Array, policy: Policy) -> Draws:
  """Draws one image's augmentation from a typed PRNG key, []."""
  strengths = (policy.brightness, policy.contrast, policy.saturation, policy.hue)
  # Every op owns a key, used or not: leaving one out keeps the draws of the others.
  rngs = jax.random.split(rng, 5)
  jitters, jitter_rng = _toss(rngs[0], policy.jitter_probability * any(strengths))
  grays, _ = _toss(rngs[1], policy.grayscale_probability)
  blurs, blur_rng = _toss(rngs[2], policy.blur_probability)
  solarizes, _ = _toss(rngs[3], policy.solarize_probability)
  flips, _ = _toss(rngs[4], policy.flip_probability)
  return Draws(
    jitters=jitters,
    adjustments=None if jitters is None else draw_jitter(jitter_rng, policy),
    grays=grays,
    blurs=blurs,
    sigma=None if blurs is None else _draw_sigma(blur_rng, policy),
    solarizes=solarizes,
    flips=flips,
  )


def _toss(rng: jax.Array, probability: float) -> tuple[jax.Array | None, jax.Array]:
  """Whether an op happens, and the key of its arguments."""
  coin_rng, draw_rng = jax.random.split(rng)
  if probability == 0:
    return None, draw_rng
  return jax.random.bernoulli(coin_rng, probability), draw_rng


def _draw_sigma(rng: jax.Array, policy: Policy) -> jax.Array:
  low, high = policy.blur_sigma
  return jax.random.uniform(rng, minval=low, maxval=high)


def draw_jitter(rng: jax.Array, policy: Policy) -> Jitter:
  """Draws from a typed PRNG key, []: all 24 orders are equally likely."""
  order_rng, factors_rng, shift_rng = jax.random.split(rng, 3)
  strengths = jnp.array([policy.brightness, policy.contrast, policy.saturation])
  factors = jax.random.uniform(
    factors_rng, (3,), minval=jnp.maximum(0.0, 1 - strengths), maxval=1 + strengths
  )
  shift = None
  if policy.hue > 0:
    shift = jax.random.uniform(shift_rng, minval=-policy.hue, maxval=policy.hue)
  return Jitter(jax.random.permutation(order_rng, 4), factors, shift)
