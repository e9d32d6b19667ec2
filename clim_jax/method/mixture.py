"""Image mixtures of a view of the anchor with a view of its positive."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

_CELLS = 4096  # of equal probability, within which λ is drawn uniformly
_LEAST = 2.0**-24  # the smallest probability that a float32 draw tells from 0


def draw_ratio(rng: jax.Array, *, alpha: float) -> jax.Array:
  """λ ~ Beta(α, α), [] float32, from a table of its quantiles.

  The distribution function is exact at every 4,096th and within as much of it between.
  `jax.random.beta` rejects draws in loops whose end only the device knows, and an
  accelerator's host would ask it at every turn.

  Args:
    rng: PRNG key.
    alpha: α > 0, static.
  """
  quantiles = jnp.asarray(_quantiles(alpha))
  place = jax.random.uniform(rng, maxval=_CELLS)
  cell = place.astype(jnp.int32)
  low, high = quantiles[cell], quantiles[cell + 1]
  return low + (place - cell) * (high - low)


@functools.cache
def _quantiles(alpha: float) -> np.ndarray:
  """Where the cells of Beta(α, α) begin and the last one ends, [_CELLS + 1] float32."""
  shares = np.clip(np.linspace(0, 1, _CELLS + 1), _LEAST, 1 - _LEAST)
  return special.betaincinv(alpha, alpha, shares).astype(np.float32)


def cutmix(
  rng: jax.Array, anchor: jax.Array, positive: jax.Array, *, alpha: float
) -> tuple[jax.Array, jax.Array]:
  """Pastes a box of the positive into the anchor.

  λ ~ Beta(α, α); the box has sides √(1 − λ) of the image's and its center lies
  anywhere in the image, so the border may clip it.

  Args:
    rng: PRNG key.
    anchor: one image, [S, S, 3] float32.
    positive: one image, [S, S, 3] float32.
    alpha: α, static.

  Returns:
    The mixed image, and the share of its pixels that are the anchor's after
    clipping, [] float32.

  Reference: Yun et al. 2019 (arXiv 1905.04899), section 3.1.
  """
  side = anchor.shape[0]
  box_rng, center_rng = jax.random.split(rng)
  extent = side * jnp.sqrt(1.0 - draw_ratio(box_rng, alpha=alpha))
  center = jax.random.uniform(center_rng, (2,), maxval=side)
  start = jnp.clip(jnp.round(center - extent / 2), 0, side)
  stop = jnp.clip(jnp.round(center + extent / 2), 0, side)
  pixels = jnp.arange(side)
  inside_rows = (pixels >= start[0]) & (pixels < stop[0])
  inside_columns = (pixels >= start[1]) & (pixels < stop[1])
  inside = inside_rows[:, None] & inside_columns[None, :]
  mixed = jnp.where(inside[:, :, None], positive, anchor)
  return mixed, 1.0 - jnp.mean(inside.astype(jnp.float32))


def mixup(
  rng: jax.Array, anchor: jax.Array, positive: jax.Array, *, alpha: float
) -> tuple[jax.Array, jax.Array]:
  """λ·anchor + (1 − λ)·positive with λ ~ Beta(α, α).

  Args, Returns: as `cutmix`.

  Reference: Zhang et al. 2018 (arXiv 1710.09412).
  """
  ratio = draw_ratio(rng, alpha=alpha)
  return ratio * anchor + (1.0 - ratio) * positive, ratio


MIXTURES = {"cutmix": cutmix, "mixup": mixup}


def mix(
  kind: str, rngs: jax.Array, anchors: jax.Array, positives: jax.Array, *, alpha: float
) -> tuple[jax.Array, jax.Array]:
  """Mixes each pair of a batch with its own λ and box.

  Args:
    kind: a name in `MIXTURES`.
    rngs: one PRNG key an image, [B].
    anchors: [B, S, S, 3] float32.
    positives: [B, S, S, 3] float32.
    alpha: α of the Beta distribution, static.

  Returns:
    Mixed images, [B, S, S, 3] float32, and the anchors' shares, [B] float32.
  """
  one = MIXTURES[kind]
  return jax.vmap(lambda rng, x, y: one(rng, x, y, alpha=alpha))(
    rngs, anchors, positives
  )
