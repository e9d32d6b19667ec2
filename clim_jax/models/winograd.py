"""3×3 convolutions with a quarter of the multiplications, for CPUs.

Winograd's minimal filtering F(4×4, 3×3): Lavin and Gray 2015 (arXiv 1509.09308). A map
is cut into tiles of 4×4 outputs, each of which sees 6×6 inputs. A kernel g and the
inputs d of a tile are read as polynomials in two variables and evaluated at 6×6 points,
where products of polynomials are products of numbers. Interpolation gives the outputs:

  y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A

Summed over input channels, the products at a point are one matrix product of all tiles.
The gradient by g is that of a linear map, summed over tiles:

  g' = Gᵀ [Σ (Bᵀ d B) ⊙ (A y' Aᵀ)] G
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from clim_jax.models.fusion import apart

_OUTPUTS, _POINTS = 4, 6  # of a tile along one axis; points at 0, 1, -1, 2, -2 and ∞
_B = np.array(
  [
    [4, 0, 0, 0, 0, 0],
    [0, -4, 4, -2, 2, 4],
    [-5, -4, -4, -1, -1, 0],
    [0, 1, -1, 2, -2, -5],
    [1, 1, 1, 1, 1, 0],
    [0, 0, 0, 0, 0, 1],
  ],
  np.float32,
)
_G = np.array(
  [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
  ],
  np.float32,
)
_A = np.array(
  [
    [1, 0, 0, 0],
    [1, 1, 1, 1],
    [1, -1, 1, -1],
    [1, 2, 4, 8],
    [1, -2, 4, -8],
    [0, 0, 0, 1],
  ],
  np.float32,
)
# Of the points along the rows: XLA gives small products a thread together, so that two
# sets of them that need not wait for each other get two.
_PARTS = (slice(0, 3), slice(3, 6))
# Multiplications saved for each number written, at least; and where what is written,
# this many numbers at most, stays in the caches. Measured, on two cores.
_LEAST_GAIN = 170
_LEAST_GAIN_CACHED, _MOST_CACHED = 80, 3_000_000


def pays(shape: tuple[int, ...], features: int) -> bool:
  """Whether images of this shape, [B, H, W, I], are convolved faster this way.

  Tiles must be whole, and the products saved must outweigh what is written for them:
  both polynomials and the products, each at 36 points.
  """
  batch, height, width, channels = shape
  if height % _OUTPUTS or width % _OUTPUTS:
    return False
  tiles, kernels = batch * height * width // _OUTPUTS**2, channels * features
  saved = (9 * _OUTPUTS**2 - _POINTS**2) * tiles * kernels
  written = _POINTS**2 * (tiles * (channels + features) + kernels)
  gain = _LEAST_GAIN_CACHED if written <= _MOST_CACHED else _LEAST_GAIN
  return saved >= gain * written


def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """[B, H, W, I] and [3, 3, I, O] → [B, H, W, O], of stride 1 and padded by 1."""
  return _filter(images, _G, kernel, channels=1)


def image_gradient(gradient: jax.Array, kernel: jax.Array) -> jax.Array:
  """Of Σ gradient · convolve(images, kernel): [B, H, W, O], kernel → [B, H, W, I].

  That is a convolution from O to I channels by the kernel turned by 180°.
  """
  return _filter(gradient, _G[:, ::-1], kernel, channels=2)


def kernel_gradient(images: jax.Array, gradient: jax.Array) -> jax.Array:
  """The same by the kernel: [B, H, W, I] and [B, H, W, O] → [3, 3, I, O]."""
  parts = zip(_image_values(images), _output_slopes(gradient), strict=True)
  products = jnp.concatenate(
    [
      lax.dot_general(values, slopes, (((1,), (1,)), ((0,), (0,))))
      for values, slopes in parts
    ]
  )
  to_kernel = np.kron(_G, _G).T @ products.reshape(_POINTS**2, -1)
  return to_kernel.reshape(3, 3, *products.shape[1:])


def _filter(
  images: jax.Array, g: np.ndarray, kernel: jax.Array, *, channels: int
) -> jax.Array:
  """Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A; `channels` is the kernel's axis to sum over."""
  batch, height, width, _ = images.shape
  tiles = (batch, height // _OUTPUTS, width // _OUTPUTS)
  halves = []  # [3, *tiles, 4, O]
  for rows, values in zip(_PARTS, _image_values(images), strict=True):
    kernels = np.kron(g[rows], g) @ kernel.reshape(9, -1)
    kernels = kernels.reshape(-1, *kernel.shape[2:])
    products = lax.dot_general(values, kernels, (((2,), (channels,)), ((0,), (0,))))
    products = products.reshape(-1, _POINTS, *tiles, products.shape[-1])
    halves.append(_combined(_A.T, lambda x: jnp.moveaxis(x, 1, 0), products, at=4))
  # [B, H/4, 4, W/4, 4, O]
  out = _combined(_A.T, lambda x: [row for half in x for row in half], halves, at=2)
  return out.reshape(batch, height, width, -1)


def _image_values(images: jax.Array) -> list[jax.Array]:
  """Bᵀ d B: [B, H, W, I] → [18, tiles, I] of each part of the points."""
  padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
  half = _combined(_B.T, lambda x: _windows(x, axis=1), padded, at=2)

  def part(rows: slice) -> jax.Array:
    def split(x: jax.Array) -> list[jax.Array]:
      return _windows(jnp.moveaxis(x[:, :, rows], 2, 0), axis=3)

    return _combined(_B.T, split, half, at=1)

  return [_flat(part(rows)) for rows in _PARTS]


def _output_slopes(gradient: jax.Array) -> list[jax.Array]:
  """A y' Aᵀ: [B, H, W, O] → [18, tiles, O] of each part of the points."""
  batch, height, width, channels = gradient.shape
  sides = (height // _OUTPUTS, _OUTPUTS, width // _OUTPUTS, _OUTPUTS)
  tiles = gradient.reshape(batch, *sides, channels)
  half = _combined(_A, lambda x: jnp.moveaxis(x, 2, 0), tiles, at=2)

  def part(rows: slice) -> jax.Array:
    return _combined(
      _A, lambda x: jnp.moveaxis(x[:, :, rows], (4, 2), (0, 1)), half, at=1
    )

  return [_flat(part(rows)) for rows in _PARTS]


def _flat(values: jax.Array) -> jax.Array:
  """[rows, columns, ..., C] → [points, tiles, C]."""
  return values.reshape(values.shape[0] * values.shape[1], -1, values.shape[-1])


def _windows(x: jax.Array, *, axis: int) -> list[jax.Array]:
  """The first, second, ... of the inputs that each tile sees along an axis."""
  last = x.shape[axis] - _POINTS + 1
  return [
    lax.slice_in_dim(x, start, start + last, _OUTPUTS, axis) for start in range(_POINTS)
  ]


def _combined(
  matrix: np.ndarray,
  split: Callable[[Any], Sequence[jax.Array] | jax.Array],
  x: jax.Array | list[jax.Array],
  *,
  at: int,
) -> jax.Array:
  """Σ_t matrix[p, t] · split(x)[t], with p as the axis `at` of the result.

  One loop that reads x and writes the result, if neither the split nor anything before
  or after is computed within or apart from it.
  """

  def combine(x: jax.Array | list[jax.Array]) -> jax.Array:
    terms = [jnp.expand_dims(term, at) for term in split(x)]
    shape = [len(matrix) if axis == at else 1 for axis in range(terms[0].ndim)]
    weights = [column.reshape(shape) for column in matrix.T]
    first, *others = (
      term * weight for term, weight in zip(terms, weights, strict=True)
    )
    return sum(others, start=first)

  return apart(combine, x)
