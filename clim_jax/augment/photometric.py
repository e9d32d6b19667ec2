"""Photometric operations on one image, [S, S, 3] float32 in [0, 1], no draws."""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as PIL's mode "L"


def adjust_hue(image: jax.Array, shift: ArrayLike) -> jax.Array:
  """Turns the hue of HSV by a fraction of the circle, leaving saturation and value.

  With value v, chroma c = max - min and hue h in [0, 6), each channel is
  v - c clip(min(t, 4 - t), 0, 1) with t = (n + h) mod 6 and n = 5, 3, 1 for r, g, b:
  neither a branch nor a table of sextants.

  Args:
    image: [S, S, 3] float32 in [0, 1].
    shift: [] float32, any real; whole turns change nothing.

  Returns:
    [S, S, 3] float32 in [0, 1].
  """
  planes = turn_hue(*jnp.split(image, 3, axis=-1), shift)
  return jnp.clip(jnp.concatenate(planes, axis=-1), 0, 1)


def turn_hue(
  red: jax.Array, green: jax.Array, blue: jax.Array, shift: ArrayLike
) -> list[jax.Array]:
  """Turns the hue of planes of any one shape; rounding may lead out of [0, 1]."""
  value = jnp.maximum(jnp.maximum(red, green), blue)
  chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
  scale = 1 / jnp.where(chroma > 0, chroma, 1.0)  # a gray pixel has no hue to turn
  hue = jnp.where(
    value == red,
    (green - blue) * scale,
    jnp.where(value == green, 2 + (blue - red) * scale, 4 + (red - green) * scale),
  )
  channels = []
  for offset in (5, 3, 1):
    turned = offset + hue + 6 * shift
    turned -= 6 * jnp.floor(turned / 6)  # jnp.mod is a remainder, which is slower
    channels.append(value - chroma * jnp.clip(jnp.minimum(turned, 4 - turned), 0, 1))
  return channels


def to_grayscale(image: jax.Array) -> jax.Array:
  """Repeats the ITU-R 601 luma in the three channels. [S, S, 3] float32 -> the same."""
  return jnp.clip(jnp.broadcast_to(luma(image), image.shape), 0, 1)


def gaussian_blur(image: jax.Array, sigma: ArrayLike, *, radius: int) -> jax.Array:
  """Convolves each channel with a Gaussian, the edge pixels repeated outwards.

  Along both axes it multiplies by one banded [S, S] matrix. With a kernel per image, a
  convolution would be a grouped one, which is slow everywhere, and a TPU would rather
  multiply than shift.

  Args:
    image: [S, S, 3] float32 in [0, 1].
    sigma: standard deviation in pixels, whatever the side, [] float32 > 0.
    radius: the kernel has 2 radius + 1 taps; three sigmas hold 99.7% of its mass.

  Returns:
    [S, S, 3] float32 in [0, 1].

  Reference: SimCLR (Chen et al. 2020, arXiv 2002.05709), appendix A, at 224 pixels.
  """
  offsets, side = jnp.arange(-radius, radius + 1), len(image)
  weights = jax.nn.softmax(-0.5 * (offsets / sigma) ** 2)
  sources = jnp.clip(offsets[:, None] + jnp.arange(side)[None], 0, side - 1)
  # Full precision, or an accelerator would round the picture to a few bits.
  einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
  blur = einsum("t,tij->ij", weights, jax.nn.one_hot(sources, side))
  return jnp.clip(einsum("ih,jw,hwc->ijc", blur, blur, image), 0, 1)


def solarize(image: jax.Array, threshold: ArrayLike) -> jax.Array:
  """Inverts the values at or above the threshold. [S, S, 3] float32 -> the same."""
  return jnp.where(image >= threshold, 1 - image, image)


def flip_horizontally(image: jax.Array) -> jax.Array:
  """Mirrors left and right. [S, S, 3] float32 -> the same."""
  return image[:, ::-1]


def luma(image: jax.Array) -> jax.Array:
  """ITU-R 601 luma. [S, S, 3] float32 -> [S, S, 1]."""
  return luma_of(*jnp.split(image, 3, axis=-1))


def luma_of(*planes: jax.Array) -> jax.Array:
  """Weighs red, green and blue, planes of any one shape."""
  # A sum rather than a matmul, which TPUs and GPUs would round to fewer bits.
  return sum(weight * plane for weight, plane in zip(_LUMA, planes, strict=True))


def blend(image: jax.Array, target: ArrayLike, factor: ArrayLike) -> jax.Array:
  """factor·image + (1 − factor)·target, clipped to [0, 1].

  With a target of 0, of the mean luma or of the luma this adjusts brightness, contrast
  or saturation, as PIL's ImageEnhance and torchvision's ColorJitter do.
  """
  return jnp.clip(factor * image + (1 - factor) * target, 0, 1)
