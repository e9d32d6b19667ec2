"""Max-pooling, with XLA's gradient and with one that only gathers."""

import itertools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from clim_jax.models.cpu.phases import interleaved

_SIDE = 3  # of a window; each begins 2 pixels after the one before, the first at -1
# A pixel of an even row is in the middle of one window. One of an odd row ends the
# window of the row before, and begins the next: (row within the window, windows on).
_WINDOWS = (((1, 0),), ((2, 0), (0, 1)))


def max_pool(images: jax.Array) -> jax.Array:
  """[B, H, W, C] → [B, ⌈H / 2⌉, ⌈W / 2⌉, C], by windows of 3×3 pixels.

  A window's gradient goes to the first of its largest pixels, row by row. XLA scatters
  it: on a CPU an element at a time.
  """
  return nn.max_pool(images, (_SIDE, _SIDE), (2, 2), padding=((1, 1), (1, 1)))


@jax.custom_vjp
def gathering_max_pool(images: jax.Array) -> jax.Array:
  """As `max_pool`; each pixel's gradient is gathered from its windows."""
  return max_pool(images)


def _forward(images: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  out = max_pool(images)
  return out, (images, out)


def _backward(
  saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array]:
  """What each pixel gets from the one, two or four windows that it is in.

  A window's NaN, which equals no pixel, is taken to be its first one's.
  """
  images, out = saved
  height, width = out.shape[1:3]
  largest = _first_largest(images, out)

  def got(
    rows: Sequence[tuple[int, int]], columns: Sequence[tuple[int, int]]
  ) -> jax.Array:
    total = jnp.zeros((), gradient.dtype)
    for (row, down), (column, right) in itertools.product(rows, columns):
      sent = jnp.where(largest == _SIDE * row + column, gradient, 0)
      sent = jnp.pad(sent, ((0, 0), (0, 1), (0, 1), (0, 0)))
      total += sent[:, down : down + height, right : right + width]
    return total

  phases = [[got(rows, columns) for columns in _WINDOWS] for rows in _WINDOWS]
  return (interleaved(phases)[:, : images.shape[1], : images.shape[2]],)


gathering_max_pool.defvjp(_forward, _backward)


def _first_largest(images: jax.Array, out: jax.Array) -> jax.Array:
  """Which pixel of each window, [B, h, w, C] int8 from 0 to 8 by rows, is `out`."""
  height, width = out.shape[1:3]
  below = 2 * height - images.shape[1]
  right = 2 * width - images.shape[2]
  lowest = jnp.array(-jnp.inf, images.dtype)
  edges = ((0, 0, 0), (1, below, 0), (1, right, 0), (0, 0, 0))
  padded = lax.pad(images, lowest, edges)
  largest = jnp.zeros(out.shape, jnp.int8)
  for pixel in reversed(range(_SIDE * _SIDE)):
    row, column = divmod(pixel, _SIDE)
    seen = padded[:, row:, column:][:, : 2 * height - 1 : 2, : 2 * width - 1 : 2]
    largest = jnp.where(seen == out, jnp.int8(pixel), largest)
  return largest
