"""Photometric augmentation by one Pallas kernel for TPU, an image at a time.

XLA computes every op for every image and passes each result on through memory. Here an
image stays on the chip, a strip of it in registers, and an op that was not drawn is not
computed. The ops and their order are those of `augment`, but for the flip: it commutes
with the others, and comes first because a product of uint8 values is exact.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from clim_jax.augment import kernel_ops
from clim_jax.augment.policy import BRIGHTNESS, CONTRAST, HUE, SATURATION, Draws, Policy

LARGEST_SIDE = 512  # pixels, of which input, output and blur still fit on every chip
# Rows of the switches and of the amounts that an image's draws become.
_JITTERS, _GRAYS, _BLURS, _SOLARIZES, _FLIPS, _ORDER = range(6)
_ADJUSTMENT, _SIGMA = 0, 4  # four adjustments, by op
_TURNS = 4
_ADJUSTMENTS = {
  BRIGHTNESS: kernel_ops.brighten,
  CONTRAST: kernel_ops.contrast,
  SATURATION: kernel_ops.saturate,
  HUE: kernel_ops.shift_hue,
}


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

  radius, threshold = policy.blur_radius(out.shape[-1]), policy.solarize_threshold
  pl.when(switches[_FLIPS, index] == 0)(lambda: kernel_ops.read(image, out))
  when_drawn(_FLIPS, lambda: kernel_ops.read_mirrored(image, out))
  when_drawn(_JITTERS, jitter)
  when_drawn(_GRAYS, lambda: kernel_ops.to_gray(out))
  when_drawn(_BLURS, lambda: kernel_ops.blur(out, amounts[_SIGMA, index], radius))
  when_drawn(_SOLARIZES, lambda: kernel_ops.solarize(out, threshold))
