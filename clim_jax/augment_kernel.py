"""Photometric augmentation by one Pallas kernel for TPU, an image at a time.

XLA computes every op for every image and passes each result on through memory. Here an
image stays on the chip, a strip of it in registers, and an op that was not drawn is not
computed. The ops and their order are those of `augment`, but for the flip: it commutes
with the others, and comes first because a product of uint8 values is exact.
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
# Rows of the switches and of the amounts that an image's draws become.
_JITTERS, _GRAYS, _BLURS, _SOLARIZES, _FLIPS, _ORDER = range(6)
_ADJUSTMENT, _SIGMA = 0, 4  # four adjustments, by op
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
    images: [B, S, S, 3] uint8, S at most `LARGEST_SIDE`. They differ among the replicas
      of a mesh if the draws do.
    draws: of each image, their leaves [B, ...]. They lie in scalar memory as a whole,
      which has room for some 10,000 images.
    policy: static.
    interpret: runs where there is no TPU: for tests, not for use.

  Returns:
    [B, S, S, 3] float32 in [0, 1].
  """
  count, side = images.shape[:2]
  scalars = pl.BlockSpec(memory_space=pltpu.SMEM)
  block = pl.BlockSpec((1, 3, side, side), lambda image: (image, 0, 0, 0))
  planes = images.transpose(0, 3, 1, 2)
  varies = jax.typeof(planes).manual_axis_type
  augmented = pl.pallas_call(
    functools.partial(_kernel, policy=policy, happening=_happening(draws)),
    grid=(count,),
    in_specs=[scalars, scalars, block],
    out_specs=block,
    out_shape=jax.ShapeDtypeStruct(planes.shape, jnp.float32, manual_axis_type=varies),
    compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",)),
    interpret=interpret,
    name="augment",
  )(_switches(draws, count), _amounts(draws, count), planes)
  return augmented.transpose(0, 2, 3, 1)


def _happening(draws: Draws) -> frozenset[int]:
  """Rows of the ops that may happen: the others are not compiled."""
  return frozenset(row for row, coin in enumerate(_coins(draws)) if coin is not None)


def _coins(draws: Draws) -> tuple[jax.Array | None, ...]:
  return draws.jitters, draws.grays, draws.blurs, draws.solarizes, draws.flips


def _switches(draws: Draws, count: int) -> jax.Array:
  """Whether each op happens, and the order of the adjustments, [9, B] int32."""
  never = jnp.zeros(count, bool)
  coins = jnp.stack([never if coin is None else coin for coin in _coins(draws)])
  order = jnp.zeros((_TURNS, count), jnp.int32)
  if draws.adjustments is not None:
    order = draws.adjustments.order.T
  return jnp.concatenate([coins.astype(jnp.int32), order])


def _amounts(draws: Draws, count: int) -> jax.Array:
  """Factors, the shift of the hue and the sigma of the blur, [5, B] float32."""
  zero, factors, shift = jnp.zeros(count), jnp.zeros((3, count)), None
  if draws.adjustments is not None:
    factors, shift = draws.adjustments.factors.T, draws.adjustments.shift
  rest = [zero if amount is None else amount for amount in (shift, draws.sigma)]
  return jnp.concatenate([factors, jnp.stack(rest)])


def _kernel(
  switches: jax.Ref,
  amounts: jax.Ref,
  image: jax.Ref,
  out: jax.Ref,
  *,
  policy: Policy,
  happening: frozenset[int],
) -> None:
  """One image, [1, 3, S, S]; `out` holds it between the ops."""
  index = pl.program_id(0)

  def when_drawn(row: int, op: Callable[[], None]) -> None:
    if row in happening:
      pl.when(switches[row, index] == 1)(op)

  def jitter() -> None:
    @pl.loop(0, _TURNS)
    def _(turn: jax.Array) -> None:
      op = switches[_ORDER + turn, index]
      amount = amounts[_ADJUSTMENT + op, index]
      for each, adjust in _ADJUSTMENTS.items():
        if each != HUE or policy.hue > 0:
          pl.when(op == each)(functools.partial(adjust, out, amount))

  def solarize_planes(*rgb: jax.Array) -> list[jax.Array]:
    return [solarize(plane, policy.solarize_threshold) for plane in rgb]

  pl.when(switches[_FLIPS, index] == 0)(lambda: _read(image, out))
  when_drawn(_FLIPS, lambda: _read_mirrored(image, out))
  when_drawn(_JITTERS, jitter)
  when_drawn(_GRAYS, lambda: _map_strips(out, _gray))
  radius = policy.blur_radius(out.shape[-1])
  when_drawn(_BLURS, lambda: _blur(out, amounts[_SIGMA, index], radius))
  when_drawn(_SOLARIZES, lambda: _map_strips(out, solarize_planes))


def _read(image: jax.Ref, out: jax.Ref) -> None:
  for channel in range(3):
    out[0, channel] = _floats(image, channel) * (1 / 255)


def _read_mirrored(image: jax.Ref, out: jax.Ref) -> None:
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
