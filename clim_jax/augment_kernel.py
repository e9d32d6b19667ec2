"""Photometric augmentation by one Pallas kernel for TPU, an image at a time.

XLA computes every op for every image and passes each result on through memory. Here an
image stays on the chip, a strip of it in registers, and an op that was not drawn is not
computed. The ops and their order are those of `augment`, but for the flip: it commutes
with the others, and comes first because uint8 is exact in a bfloat16 product.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from clim_jax.photometric import blend, luma_of, solarize, turn_hue
from clim_jax.policy import BRIGHTNESS, CONTRAST, HUE, SATURATION, Draws, Policy

LARGEST_SIDE = 512  # pixels, of which input, output and blur still fit on every chip
_STRIP = 16  # rows; with 8, a picture takes 1.2 times as many cycles
_LANES = 128
# Rows of the integers and of the numbers that an image's draws become.
_JITTERS, _GRAYS, _BLURS, _SOLARIZES, _FLIPS, _ORDER = range(6)
_SIGMA, _AMOUNTS = range(2)
_TURNS = 4


def apply(
  images: jax.Array,
  draws: Draws,
  *,
  policy: Policy,
  interpret: bool | pltpu.InterpretParams = False,
) -> jax.Array:
  """Augments a batch as it was drawn.

  Args:
    images: [B, S, S, 3] uint8, S at most `LARGEST_SIDE`.
    draws: of each image, their leaves [B, ...].
    policy: static.
    interpret: runs where there is no TPU: for tests, not for use.

  Returns:
    [B, S, S, 3] float32 in [0, 1].
  """
  count, side = images.shape[:2]
  scalars = pl.BlockSpec(memory_space=pltpu.SMEM)
  block = pl.BlockSpec((1, 3, side, side), lambda image: (image, 0, 0, 0))
  planes = images.transpose(0, 3, 1, 2)  # as a TPU keeps them anyway
  varies = jax.typeof(planes).manual_axis_type
  augmented = pl.pallas_call(
    functools.partial(_kernel, policy=policy),
    grid=(count,),
    in_specs=[scalars, scalars, block],
    out_specs=block,
    out_shape=jax.ShapeDtypeStruct(planes.shape, jnp.float32, manual_axis_type=varies),
    compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",)),
    interpret=interpret,
    name="augment",
  )(*_scalars(draws, count), planes)
  return augmented.transpose(0, 2, 3, 1)


def _scalars(draws: Draws, count: int) -> tuple[jax.Array, jax.Array]:
  """The draws as integers, [9, B] int32, and as numbers, [5, B] float32."""
  happens = (draws.jitters, draws.grays, draws.blurs, draws.solarizes, draws.flips)
  never, zero = jnp.zeros(count, bool), jnp.zeros(count)
  integers = jnp.stack([never if op is None else op for op in happens])
  order, amounts = jnp.zeros((_TURNS, count), jnp.int32), jnp.zeros((_TURNS, count))
  if draws.jitter is not None:
    shift = zero if draws.jitter.shift is None else draws.jitter.shift
    order = draws.jitter.order.T
    amounts = jnp.concatenate([draws.jitter.factors.T, shift[None]])
    amounts = jnp.take_along_axis(amounts, order, axis=0)  # by op → by turn
  sigma = zero if draws.sigma is None else draws.sigma
  return (
    jnp.concatenate([integers.astype(jnp.int32), order]),
    jnp.concatenate([sigma[None], amounts]),
  )


def _kernel(
  integers: jax.Ref, numbers: jax.Ref, image: jax.Ref, out: jax.Ref, *, policy: Policy
) -> None:
  """One image, [1, 3, S, S]; `out` holds it between the ops."""
  index = pl.program_id(0)

  def drawn(op: int) -> jax.Array:
    return integers[op, index] == 1

  pl.when(drawn(_FLIPS))(lambda: _read(image, out, flip=True))
  pl.when(~drawn(_FLIPS))(lambda: _read(image, out, flip=False))

  @pl.when(drawn(_JITTERS))
  def _() -> None:
    @pl.loop(0, _TURNS)
    def _(turn: jax.Array) -> None:
      op, amount = integers[_ORDER + turn, index], numbers[_AMOUNTS + turn, index]
      for each, adjust in _ADJUSTMENTS.items():
        pl.when(op == each)(functools.partial(adjust, out, amount))

  pl.when(drawn(_GRAYS))(lambda: _map_strips(out, _gray))
  radius = policy.blur_radius(out.shape[-1])
  pl.when(drawn(_BLURS))(lambda: _blur(out, numbers[_SIGMA, index], radius))

  @pl.when(drawn(_SOLARIZES))
  def _() -> None:
    _map_strips(out, lambda *rgb: [solarize(x, policy.solarize_threshold) for x in rgb])


def _read(image: jax.Ref, out: jax.Ref, *, flip: bool) -> None:
  side = image.shape[-1]
  for channel in range(3):
    plane = image[0, channel].astype(jnp.int32).astype(jnp.float32)
    if flip:
      row, column = _indices((side, side))
      mirror = (row + column == side - 1).astype(jnp.float32).astype(jnp.bfloat16)
      plane = plane.astype(jnp.bfloat16)
      plane = jnp.dot(plane, mirror, preferred_element_type=jnp.float32)
    out[0, channel] = plane * (1 / 255)  # as XLA compiles a division by 255


def _brighten(out: jax.Ref, factor: jax.Array) -> None:
  _map_strips(out, lambda *rgb: [blend(x, 0.0, factor) for x in rgb])


def _contrast(out: jax.Ref, factor: jax.Array) -> None:
  side = out.shape[-1]
  rows = _strip_rows(side)
  total = lax.fori_loop(
    0,
    side // rows,
    lambda strip, total: total + luma_of(*_strip(out, strip)),
    jnp.zeros((rows, side), jnp.float32),
  )
  mean = jnp.sum(total) / side**2
  _map_strips(out, lambda *rgb: [blend(x, mean, factor) for x in rgb])


def _saturate(out: jax.Ref, factor: jax.Array) -> None:
  def op(*rgb: jax.Array) -> list[jax.Array]:
    gray = luma_of(*rgb)
    return [blend(x, gray, factor) for x in rgb]

  _map_strips(out, op)


def _shift_hue(out: jax.Ref, shift: jax.Array) -> None:
  _map_strips(out, lambda *rgb: [jnp.clip(x, 0, 1) for x in turn_hue(*rgb, shift)])


_ADJUSTMENTS = {
  BRIGHTNESS: _brighten,
  CONTRAST: _contrast,
  SATURATION: _saturate,
  HUE: _shift_hue,
}


def _gray(*rgb: jax.Array) -> list[jax.Array]:
  return [jnp.clip(luma_of(*rgb), 0, 1)] * 3


def _blur(out: jax.Ref, sigma: jax.Array, radius: int) -> None:
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

  slope = -0.5 / sigma**2

  def weight(offset: jax.Array) -> jax.Array:
    offset = offset.astype(jnp.float32)
    inside = jnp.abs(offset) <= radius
    return jnp.where(inside, jnp.exp(slope * offset**2), 0.0)

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
