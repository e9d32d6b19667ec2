"""Ops on a picture in the on-chip memory of a TPU: [1, 3, S, S] float32, in place.

Each is an op of `photometric`, by strips that fit in the registers.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from clim_jax.augment import photometric

_STRIP = 16  # rows; with 8, a picture takes 1.2 times as many cycles
_LANES = 128


def read(image: jax.Ref, out: jax.Ref) -> None:
  """[1, 3, S, S] uint8 to numbers in [0, 1]."""
  for channel in range(3):
    out[0, channel] = _floats(image, channel) * (1 / 255)


def read_mirrored(image: jax.Ref, out: jax.Ref) -> None:
  """The same, left and right exchanged: a product, for lanes cannot be reversed."""
  side = image.shape[-1]
  row, column = _indices((side, side))
  mirror = (row + column == side - 1).astype(jnp.float32)
  for channel in range(3):
    # Whole numbers to 255 and a one: exact in the bfloat16 that they are rounded to.
    plane = jnp.dot(
      _floats(image, channel),
      mirror,
      precision=lax.Precision.DEFAULT,
      preferred_element_type=jnp.float32,
    )
    out[0, channel] = plane * (1 / 255)


def _floats(image: jax.Ref, channel: int) -> jax.Array:
  return image[0, channel].astype(jnp.int32).astype(jnp.float32)


def brighten(out: jax.Ref, factor: jax.Array) -> None:
  _map_strips(out, lambda *rgb: [photometric.blend(x, 0.0, factor) for x in rgb])


def contrast(out: jax.Ref, factor: jax.Array) -> None:
  side = out.shape[-1]
  rows = _strip_rows(side)
  total = lax.fori_loop(
    0,
    side // rows,
    lambda strip, total: total + photometric.luma_of(*_strip(out, strip)),
    jnp.zeros((rows, side), jnp.float32),
  )
  mean = jnp.sum(total) / side**2
  _map_strips(out, lambda *rgb: [photometric.blend(x, mean, factor) for x in rgb])


def saturate(out: jax.Ref, factor: jax.Array) -> None:
  def op(*rgb: jax.Array) -> list[jax.Array]:
    gray = photometric.luma_of(*rgb)
    return [photometric.blend(x, gray, factor) for x in rgb]

  _map_strips(out, op)


def shift_hue(out: jax.Ref, shift: jax.Array) -> None:
  _map_strips(
    out, lambda *rgb: [jnp.clip(x, 0, 1) for x in photometric.turn_hue(*rgb, shift)]
  )


def to_gray(out: jax.Ref) -> None:
  _map_strips(out, lambda *rgb: [jnp.clip(photometric.luma_of(*rgb), 0, 1)] * 3)


def solarize(out: jax.Ref, threshold: float) -> None:
  _map_strips(out, lambda *rgb: [photometric.solarize(x, threshold) for x in rgb])


def blur(out: jax.Ref, sigma: jax.Array, radius: int) -> None:
  """See `photometric.gaussian_blur`."""
  matrix = _blur_matrix(sigma, out.shape[-1], radius)
  product = functools.partial(
    lax.dot_general,
    precision=lax.Precision.HIGHEST,  # or the picture is rounded to a few bits
    preferred_element_type=jnp.float32,
  )
  for channel in range(3):
    down = product(matrix, out[0, channel], (((1,), (0,)), ((), ())))
    out[0, channel] = jnp.clip(product(down, matrix, (((1,), (1,)), ((), ()))), 0, 1)


def _blur_matrix(sigma: jax.Array, side: int, radius: int) -> jax.Array:
  """Row i holds the weights of the pixels that blur into pixel i, [S, S].

  Taps beyond the first and the last pixel repeat it: their weights add to its own.
  """
  inverse = 1 / sigma  # once; a square of it could overflow where an offset is 0

  def weight(offset: jax.Array) -> jax.Array:
    offset = offset.astype(jnp.float32)
    inside = jnp.abs(offset) <= radius
    return jnp.where(inside, jnp.exp(-0.5 * (offset * inverse) ** 2), 0.0)

  row, column = _indices((side, side))
  target, tap = _indices((side, -(-radius // _LANES) * _LANES))
  tap += 1
  weights = weight(tap)

  def beyond(pixels: jax.Array) -> jax.Array:
    """Total weight of the taps that reach further than so many pixels, [S, 1]."""
    return jnp.sum(jnp.where(tap > pixels, weights, 0.0), axis=1, keepdims=True)

  matrix = weight(column - row)
  matrix += jnp.where(column == 0, beyond(target), 0.0)
  matrix += jnp.where(column == side - 1, beyond(side - 1 - target), 0.0)
  return matrix * (1 / (1 + 2 * beyond(jnp.zeros_like(target))))


def _indices(shape: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
  return tuple(lax.broadcasted_iota(jnp.int32, shape, axis) for axis in range(2))


def _map_strips(out: jax.Ref, op: Callable[..., Sequence[jax.Array]]) -> None:
  """Replaces the planes red, green and blue by what `op` makes of them."""
  rows = _strip_rows(out.shape[-1])

  @pl.loop(0, out.shape[-1] // rows)
  def _(strip: jax.Array) -> None:
    for channel, plane in enumerate(op(*_strip(out, strip))):
      out[0, channel, _rows(strip, rows), :] = plane


def _strip(out: jax.Ref, strip: jax.Array) -> list[jax.Array]:
  rows = _strip_rows(out.shape[-1])
  return [out[0, channel, _rows(strip, rows), :] for channel in range(3)]


def _rows(strip: jax.Array, rows: int) -> pl.Slice:
  return pl.ds(pl.multiple_of(strip * rows, rows), rows)


def _strip_rows(side: int) -> int:
  return _STRIP if side % _STRIP == 0 else side
