"""Tiles of maps as polynomials, for `winograd.py`: values at points, and back.

A tile has 4×4 outputs and 6×6 inputs and points.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from clim_jax.models.cpu.fusion import apart

OUTPUTS, POINTS = 4, 6  # of a tile along one axis; points at 0, 1, -1, 2, -2 and ∞
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
# What a tile's four pixels get of its own points, and of the last point of the tile
# before and the first of the one after: inputs of both tiles, at these points alone.
_B_SHARED = np.zeros((OUTPUTS, POINTS + 2), np.float32)
_B_SHARED[:, :POINTS] = _B[1:-1]
_B_SHARED[0, -2], _B_SHARED[-1, -1] = _B[-1, -1], _B[0, 0]


def image_values(images: jax.Array) -> jax.Array:
  """Bᵀ d B: [B, H, W, I] → [36, tiles, I]."""
  padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
  half = _combined(_B.T, lambda x: _windows(x, axis=1), padded, at=2)

  def columns(x: jax.Array) -> list[jax.Array]:
    return _windows(jnp.moveaxis(x, 2, 0), axis=3)

  return _flat(_combined(_B.T, columns, half, at=1))


def kernel_values(kernel: jax.Array) -> jax.Array:
  """G g Gᵀ: [3, 3, I, O] → [36, I, O]."""
  values = np.kron(_G, _G) @ kernel.reshape(9, -1)
  return values.reshape(-1, *kernel.shape[2:])


def output_slopes(gradient: jax.Array) -> jax.Array:
  """A y' Aᵀ: [B, H, W, O] → [36, tiles, O]."""
  batch, height, width, channels = gradient.shape
  sides = (height // OUTPUTS, OUTPUTS, width // OUTPUTS, OUTPUTS)
  tiles = gradient.reshape(batch, *sides, channels)
  half = _combined(_A, lambda x: jnp.moveaxis(x, 2, 0), tiles, at=2)
  return _flat(_combined(_A, lambda x: jnp.moveaxis(x, (4, 2), (0, 1)), half, at=1))


def outputs(products: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
  """Aᵀ products A: [36, tiles, O] → [B, H, W, O]."""
  return _to_pixels(_A.T, lambda points, **_: points, products, shape)


def image_slopes(products: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
  """B products Bᵀ, where tiles overlap added up: [36, tiles, I] → [B, H, W, I]."""
  return _to_pixels(_B_SHARED, _with_neighbours, products, shape)


def kernel_slopes(products: jax.Array) -> jax.Array:
  """Gᵀ products G: [36, I, O] → [3, 3, I, O]."""
  to_kernel = np.kron(_G, _G).T @ products.reshape(POINTS**2, -1)
  return to_kernel.reshape(3, 3, *products.shape[1:])


def _flat(values: jax.Array) -> jax.Array:
  """[rows, columns, ..., C] → [points, tiles, C]."""
  return values.reshape(values.shape[0] * values.shape[1], -1, values.shape[-1])


def _windows(x: jax.Array, *, axis: int) -> list[jax.Array]:
  """The first, second, ... of the inputs that each tile sees along an axis."""
  last = x.shape[axis] - POINTS + 1
  return [
    lax.slice_in_dim(x, start, start + last, OUTPUTS, axis) for start in range(POINTS)
  ]


def _to_pixels(
  matrix: np.ndarray,
  terms: Callable[..., list[jax.Array]],
  products: jax.Array,
  shape: tuple[int, int, int],
) -> jax.Array:
  """Matrix · products · matrixᵀ: [36, tiles, C] → [B, H, W, C].

  Args:
    matrix: [4, K], from K terms to the pixels of a tile along an axis.
    terms: those of the six points, given as a list, along `axis`.
    products: at the points.
    shape: B, H, W.
  """
  batch, height, width = shape
  tiles = (batch, height // OUTPUTS, width // OUTPUTS)

  def columns(x: jax.Array) -> list[jax.Array]:
    return terms(list(jnp.moveaxis(x, 1, 0)), axis=3)

  def rows(x: jax.Array) -> list[jax.Array]:
    return terms(list(x), axis=1)

  points = products.reshape(POINTS, POINTS, *tiles, products.shape[-1])
  half = _combined(matrix, columns, points, at=4)  # [6, *tiles, 4, C]
  # [B, H/4, 4, W/4, 4, C]
  return _combined(matrix, rows, half, at=2).reshape(*shape, -1)


def _with_neighbours(points: list[jax.Array], *, axis: int) -> list[jax.Array]:
  """Also the last point of the tile before, and the first of the one after."""

  def beside(x: jax.Array, shift: int) -> jax.Array:
    edges = [(0, 0, 0)] * x.ndim
    edges[axis] = (shift, -shift, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), edges)

  return [*points, beside(points[-1], 1), beside(points[0], -1)]


def _combined(
  matrix: np.ndarray,
  split: Callable[[jax.Array], Sequence[jax.Array] | jax.Array],
  x: jax.Array,
  *,
  at: int,
) -> jax.Array:
  """Σ_t matrix[p, t] · split(x)[t], with p as the axis `at` of the result.

  One loop that reads x and writes the result, if neither the split nor anything before
  or after is computed within or apart from it.
  """

  def combine(x: jax.Array) -> jax.Array:
    terms = [jnp.expand_dims(term, at) for term in split(x)]
    shape = [len(matrix) if axis == at else 1 for axis in range(terms[0].ndim)]
    weights = [column.reshape(shape) for column in matrix.T]
    first, *others = (
      term * weight for term, weight in zip(terms, weights, strict=True)
    )
    return sum(others, start=first)

  return apart(combine, x)
