"""The kernel against the ops that `test_augment.py` holds against PIL and SciPy.

Compiled where pytest finds a TPU (`--noconftest`, for conftest.py chooses CPU devices),
interpreted elsewhere.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu
from PIL import Image
from policies import EVERYTHING, NOTHING
from skimage import data

from clim_jax.augment import apply as augment
from clim_jax.augment import kernel
from clim_jax.augment.policy import Draws, Jitter, draw

STRENGTHS = dict(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.3)
# Milder than `EVERYTHING`, whose factors multiply rounding.
MOCO = dataclasses.replace(
  EVERYTHING, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1
)
ON_TPU = jax.default_backend() == "tpu"
# float32, a mean and two products in another order; on a TPU quotients and exponentials
# of its own, still far below a level of uint8 (4e-3).
ROUNDING = 1e-4 if ON_TPU else 5e-6


def pictures(side, count):
  shown = itertools.islice(
    itertools.cycle([data.astronaut(), data.chelsea(), data.coffee()]), count
  )
  return np.stack([np.array(Image.fromarray(x).resize((side, side))) for x in shown])


def both(images, draws, policy):
  """By the ops and by the kernel."""
  by_kernel = functools.partial(kernel.apply, policy=policy, interpret=not ON_TPU)
  ops = jax.vmap(functools.partial(augment.apply_draws, policy=policy))
  return np.asarray(jax.jit(ops)(images, draws)), np.asarray(
    jax.jit(by_kernel)(images, draws)
  )


def drawn(count, policy):
  rngs = jax.random.split(jax.random.key(3), count)
  return jax.vmap(functools.partial(draw, policy=policy))(rngs)


# Strips of 16 rows, no strips, lanes that are not filled, and several tiles of them.
@pytest.mark.parametrize("side", [32, 20, 7, 144, *([224] if ON_TPU else [])])
def test_it_makes_of_a_batch_what_the_ops_make(side):
  images = pictures(side, 24)
  expected, result = both(images, drawn(24, MOCO), MOCO)
  assert result.dtype == np.float32
  differs = np.abs(result - expected) > ROUNDING
  assert differs.mean() < 1e-4  # a value may be solarized on one side alone
  changed = np.abs(result - images / 255).max((1, 2, 3)) > 0.01
  assert changed.sum() > 12


@pytest.mark.parametrize(
  "happening",
  [
    dict(),
    dict(grayscale_probability=1.0),
    dict(solarize_probability=1.0, solarize_threshold=0.3),
    dict(blur_probability=1.0, blur_sigma=(0.1, 2.0)),
    dict(blur_probability=1.0, blur_sigma=(30.0, 60.0)),  # reaches across the image
    dict(blur_probability=1.0, flip_probability=1.0, blur_sigma=(1e-25, 1e-25)),
    dict(flip_probability=1.0),  # whose blur would have no taps at all
    dict(jitter_probability=1.0, **STRENGTHS),
    dict(jitter_probability=1.0, **STRENGTHS | dict(hue=0.0)),
  ],
  ids=str,
)
def test_each_op_alone_is_the_op(happening):
  policy = dataclasses.replace(NOTHING, **happening)
  images = pictures(48, 6)
  expected, result = both(images, drawn(6, policy), policy)
  np.testing.assert_allclose(result, expected, atol=ROUNDING)
  if happening:
    assert np.abs(result - images / 255).max() > 0.1


def test_jitter_takes_its_turns_in_all_24_orders():
  orders = jnp.array(list(itertools.permutations(range(4))), jnp.int32)
  count = len(orders)
  jitter = Jitter(
    orders, jnp.tile(jnp.array([1.6, 0.5, 1.7]), (count, 1)), jnp.full(count, 0.13)
  )
  draws = Draws(jnp.ones(count, bool), jitter, None, None, None, None, None)
  policy = dataclasses.replace(NOTHING, jitter_probability=1.0, **STRENGTHS)
  expected, result = both(pictures(32, 1).repeat(count, 0), draws, policy)
  np.testing.assert_allclose(result, expected, atol=2 * ROUNDING)
  pairs = itertools.combinations(result, 2)
  assert min(np.abs(one - other).max() for one, other in pairs) > 0.01


def test_what_is_not_drawn_does_not_happen():
  count = 8
  never = jnp.zeros(count, bool)
  inversion = Jitter(
    jnp.tile(jnp.arange(4), (count, 1)), jnp.zeros((count, 3)), jnp.full(count, 0.5)
  )
  draws = Draws(never, inversion, never, never, jnp.ones(count), never, never)
  images = pictures(32, count)
  _, result = both(images, draws, MOCO)
  np.testing.assert_allclose(result, images / 255, rtol=3e-7)


def test_a_blur_wider_than_a_tile_of_lanes_is_the_blur():
  policy = dataclasses.replace(NOTHING, blur_probability=1.0, blur_sigma=(50.0, 60.0))
  expected, result = both(pictures(144, 1), drawn(1, policy), policy)
  np.testing.assert_allclose(result, expected, atol=ROUNDING)


def test_augment_by_the_kernel_is_augment_by_operations(monkeypatch):
  if not ON_TPU:  # where `augment` would not take the kernel by itself
    by_kernel = functools.partial(kernel.apply, interpret=True)
    monkeypatch.setattr(kernel, "apply", by_kernel)
    monkeypatch.setattr(
      jax.lax, "platform_dependent", lambda *operands, tpu, default: tpu(*operands)
    )
  rngs, images = jax.random.split(jax.random.key(5), 12), pictures(32, 12)
  results = []
  for implementation in ("auto", "xla"):
    policy = dataclasses.replace(MOCO, implementation=implementation)
    by = jax.jit(functools.partial(augment.augment, policy=policy))
    assert ("pallas_call" in str(by.trace(rngs, images).jaxpr)) == (
      implementation == "auto"
    )
    results.append(np.asarray(by(rngs, images)))
  assert (np.abs(results[0] - results[1]) > ROUNDING).mean() < 1e-4


@pytest.mark.slow
@pytest.mark.skipif(ON_TPU, reason="a simulation for CPU")
def test_on_a_simulated_tpu_nothing_is_read_before_it_is_written():
  images, draws = pictures(20, 4), drawn(4, MOCO)
  simulated = pltpu.InterpretParams(uninitialized_memory="nan")
  result = kernel.apply(images, draws, policy=MOCO, interpret=simulated)
  expected, _ = both(images, draws, MOCO)
  np.testing.assert_allclose(result, expected, atol=ROUNDING)
