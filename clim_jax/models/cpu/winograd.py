"""3×3 convolutions with a quarter of the multiplications, for CPUs.

Winograd's minimal filtering F(4×4, 3×3): Lavin and Gray 2015 (arXiv 1509.09308). A map
is cut into tiles of 4×4 outputs, each of which sees 6×6 inputs. A kernel g and the
inputs d of a tile are read as polynomials in two variables and evaluated at 6×6 points,
where products of polynomials are products of numbers. Interpolation gives the outputs:

  y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A

Summed over input channels, the products at a point are one matrix product of all tiles.
Gradients are those of linear maps, summed over tiles, and share A y' Aᵀ:

  g' = Gᵀ [Σ (Bᵀ d B) ⊙ (A y' Aᵀ)] G        d' = B [(G g Gᵀ) ⊙ (A y' Aᵀ)] Bᵀ
"""

import jax
import jax.numpy as jnp
from jax import lax

from clim_jax.models.cpu import winograd_tiles as tiles
from clim_jax.models.cpu.fusion import apart

# Multiplications saved for each number written, at least; and where what is written,
# this many numbers at most, stays in the caches. Measured, with a device for each core.
_LEAST_GAIN = 90
_LEAST_GAIN_CACHED, _MOST_CACHED = 40, 3_000_000


def pays(shape: tuple[int, ...], features: int) -> bool:
  """Whether images of this shape, [B, H, W, I], are convolved faster this way.

  Tiles must be whole, and the products saved must outweigh what is written for them:
  both polynomials and the products, each at 36 points.
  """
  batch, height, width, channels = shape
  if height % tiles.OUTPUTS or width % tiles.OUTPUTS:
    return False
  number, kernels = batch * height * width // tiles.OUTPUTS**2, channels * features
  saved = (9 * tiles.OUTPUTS**2 - tiles.POINTS**2) * number * kernels
  written = tiles.POINTS**2 * (number * (channels + features) + kernels)
  gain = _LEAST_GAIN_CACHED if written <= _MOST_CACHED else _LEAST_GAIN
  return saved >= gain * written


def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """[B, H, W, I] and [3, 3, I, O] → [B, H, W, O], of stride 1 and padded by 1."""
  values, kernels = tiles.image_values(images), tiles.kernel_values(kernel)
  return tiles.outputs(_products(values, kernels, 1), images.shape[:3])


def gradients(
  images: jax.Array, kernel: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Of Σ gradient · convolve(images, kernel), by the images and by the kernel."""
  slopes, kernels = tiles.output_slopes(gradient), tiles.kernel_values(kernel)
  # Transposed apart: products of operands as they are take Eigen twice as long, and
  # XLA does not hand them to YNN.
  values = apart(lambda x: jnp.swapaxes(x, 1, 2), tiles.image_values(images))
  return (
    tiles.image_slopes(_products(slopes, kernels, 2), images.shape[:3]),
    tiles.kernel_slopes(_products(values, slopes, 1)),
  )


def _products(first: jax.Array, second: jax.Array, summed: int) -> jax.Array:
  """At each point: [P, M, K] and [P, K, N] → [P, M, N]; if `summed` is 2, [P, N, K]."""
  return lax.dot_general(first, second, (((2,), (summed,)), ((0,), (0,))))
