"""Ops together against a composition by hand, the draws against chance.

One policy and few batch sizes, since most of the time goes into compiling.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import LEVEL, ROUNDING, floats, levels, pictures, pil
from PIL import Image, ImageEnhance
from policies import EVERYTHING, NOTHING
from scipy import stats
from skimage import color

from clim_jax.augment import apply as augment
from clim_jax.augment import photometric
from clim_jax.augment.policy import BRIGHTNESS, CONTRAST, HUE, SATURATION, Policy

PROBABILITIES = [
  field.name
  for field in dataclasses.fields(Policy)
  if field.name.endswith("_probability")
]
augment_batch = jax.jit(augment.augment, static_argnames="policy")


def only(**values):
  return dataclasses.replace(NOTHING, **values)


def keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


def run(rngs, images, policy):
  return augment_batch(rngs, levels(images), policy)


@pytest.fixture(scope="module")
def images():
  return pictures()


def by_hand(image, order, factors, shift):
  for op in order:
    luma = image @ np.array([0.299, 0.587, 0.114])
    target = {
      BRIGHTNESS: 0.0,
      CONTRAST: luma.mean(),
      SATURATION: luma[..., None],
    }
    if op == HUE:
      hsv = color.rgb2hsv(image)
      image = color.hsv2rgb(
        np.concatenate([(hsv[..., :1] + shift) % 1, hsv[..., 1:]], -1)
      )
    else:
      image = np.clip(factors[op] * image + (1 - factors[op]) * target[op], 0, 1)
  return image


def test_jitter_equals_its_composition_by_hand_in_all_24_orders(images):
  orders = np.array(list(itertools.permutations(range(4))), np.int32)
  factors, shift = np.array([1.6, 0.5, 1.7], np.float32), np.float32(0.13)
  jittered = jax.jit(jax.vmap(augment.jitter, in_axes=(None, 0, None, None)))(
    images[0], orders, factors, shift
  )
  for order, result in zip(orders, jittered, strict=True):
    expected = by_hand(images[0].astype(np.float64), order, factors, shift)
    # Contrast after hue: a slope of up to 1.7 * 1.6 upon the rounding.
    np.testing.assert_allclose(result, expected, atol=5 * ROUNDING)
  # Else the order would not have been seen: the nearest two differ visibly.
  pairs = itertools.combinations(np.asarray(jittered), 2)
  assert min(np.abs(one - other).max() for one, other in pairs) > 4 * LEVEL


def test_jitter_equals_pil_in_one_order(images):
  order = [SATURATION, HUE, BRIGHTNESS, CONTRAST]
  picture = ImageEnhance.Color(pil(images[0])).enhance(0.7)
  hsv = np.array(picture.convert("HSV"))
  hsv[..., 0] += np.uint8(20)
  picture = Image.fromarray(hsv, "HSV").convert("RGB")
  picture = ImageEnhance.Brightness(picture).enhance(1.3)
  expected = floats(ImageEnhance.Contrast(picture).enhance(0.6))
  factors = jnp.array([1.3, 0.6, 0.7])
  result = augment.jitter(images[0], jnp.array(order), factors, jnp.float32(20 / 256))
  # Hue's 8 levels (above) times 1.3 * 0.6, and a level for each blend.
  assert np.abs(result - expected).max() <= 10 * LEVEL


def test_jitter_without_hue_equals_a_shift_of_zero(images):
  order, factors = jnp.array([1, 3, 2, 0]), jnp.array([1.3, 0.6, 0.7])
  with_hue = augment.jitter(images[0], order, factors, jnp.float32(0))
  without = augment.jitter(images[0], order, factors, None)
  np.testing.assert_allclose(with_hue, without, atol=ROUNDING)


def test_blur_sigma_is_uniform_in_its_range():
  impulse = np.zeros((200, 17, 17, 3), np.float32)
  impulse[:, 8, 8] = 1
  policy = only(blur_probability=1.0, blur_sigma=(0.8, 1.6))
  row = np.asarray(run(keys(200), impulse, policy))[..., 0].sum(1)
  # The second moment of a sampled Gaussian cut at >= 3 sigmas: 3% low at the most.
  sigmas = np.sqrt(row @ np.arange(-8, 9) ** 2)
  assert stats.kstest(sigmas, "uniform", (0.8, 0.8)).pvalue > 1e-3


@pytest.mark.parametrize("name", PROBABILITIES)
def test_ops_happen_with_their_probability(images, name):
  count, probability = 1000, 0.3
  small = np.repeat(images[:1, ::16, ::16], count, 0)
  policy = only(**{name: probability}, brightness=0.4, blur_sigma=(1.0, 2.0))
  difference = np.abs(run(keys(count), small, policy) - small)
  changed = np.any(difference > ROUNDING, axis=(1, 2, 3))
  low, high = stats.binom.interval(1 - 1e-6, count, probability)
  assert low <= changed.sum() <= high


def test_ops_happen_independently():
  count, image = 4000, np.zeros((2, 2, 3), np.float32)
  image[:, 0] = [0.1, 0.2, 0.3]
  policy = only(
    grayscale_probability=0.5,
    solarize_probability=0.5,
    solarize_threshold=0.0,
    flip_probability=0.5,
  )
  results = np.asarray(run(keys(count), np.repeat(image[None], count, 0), policy))
  # Each leaves its own mark: no colour, a value above 0.3, the black column first.
  gray = np.all(np.ptp(results, axis=-1) == 0, axis=(1, 2))
  solarized = results.max((1, 2, 3)) > 0.3
  corner = results[:, 0, 0, 0]
  flipped = np.where(solarized, 1 - corner, corner) < 0.05
  cells = np.bincount(4 * gray + 2 * solarized + flipped, minlength=8)
  assert stats.chisquare(cells).pvalue > 1e-3


def test_ops_come_in_the_order_of_moco(images, monkeypatch):
  seen = []
  for name in ("jitter", "to_grayscale", "gaussian_blur", "solarize"):
    op = getattr(augment, name)
    monkeypatch.setattr(
      augment,
      name,
      lambda *a, op=op, name=name, **k: (seen.append(name), op(*a, **k))[1],
    )
  jax.eval_shape(
    functools.partial(augment.augment, policy=EVERYTHING), keys(3), levels(images)
  )
  assert seen == ["jitter", "to_grayscale", "gaussian_blur", "solarize"]


@pytest.mark.parametrize(
  ("zeros", "op"),
  [
    (["jitter_probability"], "jitter"),
    (["brightness", "contrast", "saturation", "hue"], "jitter"),
    (["hue"], "adjust_hue"),
    (["grayscale_probability"], "to_grayscale"),
    (["blur_probability"], "gaussian_blur"),
    (["solarize_probability"], "solarize"),
    (["flip_probability"], "flip_horizontally"),
  ],
)
def test_an_op_that_cannot_happen_is_not_traced(images, monkeypatch, zeros, op):
  def trace(*_, **__):
    raise AssertionError(f"{op} is traced")

  monkeypatch.setattr(augment, op, trace)
  policy = dataclasses.replace(EVERYTHING, **dict.fromkeys(zeros, 0.0))
  jax.eval_shape(
    functools.partial(augment.augment, policy=policy), keys(3), levels(images)
  )


@pytest.mark.parametrize("jitter_probability", [0.0, 1.0])
def test_a_policy_of_zeros_is_the_identity(images, jitter_probability):
  policy = only(jitter_probability=jitter_probability)
  # But for a division by 255 that is compiled as a product.
  np.testing.assert_allclose(run(keys(3), images, policy), images, rtol=2e-7)


def test_leaving_an_op_out_keeps_the_draws_of_the_others(images):
  small = np.repeat(images[:1, ::16, ::16], 64, 0)
  flips = run(keys(64), small, only(flip_probability=0.5))
  both = run(keys(64), small, only(flip_probability=0.5, grayscale_probability=1.0))
  gray = jax.vmap(photometric.to_grayscale)(flips)
  np.testing.assert_allclose(both, gray, atol=ROUNDING)


def test_an_image_does_not_depend_on_its_neighbours(images):
  batch, rngs = np.concatenate([images] * 3), keys(9)
  together = run(rngs, batch, EVERYTHING)
  for index in range(9):
    row = slice(index, index + 1)
    alone = run(rngs[row], batch[row], EVERYTHING)
    differs = np.abs(alone - together[row]) > 10 * ROUNDING
    # Another batch size may sum a mean in another order, after which the jitter's
    # factors multiply by up to 3 each, and solarization may tip at its threshold.
    assert differs.mean() < 1e-4


def test_a_batch_of_several_parts_is_augmented_as_each_part_is():
  policy = only(grayscale_probability=0.5, flip_probability=0.5)  # fast to compile
  size, at_once = 131, policy.images_at_once
  batch = np.random.default_rng(0).uniform(size=(size, 6, 6, 3)).astype(np.float32)
  whole = run(keys(size), batch, policy)
  undivided = run(keys(size), batch, policy.for_platform("gpu"))
  parts = np.split(np.arange(size), [at_once, 2 * at_once])
  alone = np.concatenate([run(keys(size)[p], batch[p], policy) for p in parts])
  for other in (undivided, alone):
    np.testing.assert_allclose(whole, other, atol=ROUNDING)


def test_each_image_of_a_batch_draws_for_itself(images):
  results = run(keys(9), np.repeat(images[:1], 9, 0), EVERYTHING)
  assert len(np.unique(results, axis=0)) == 9


@pytest.mark.parametrize("seed", range(4))
def test_results_are_finite_and_in_range(images, seed):
  noise = np.random.default_rng(seed).random((3, 64, 64, 3), np.float32)
  extremes = np.stack([np.zeros_like(noise[0]), np.ones_like(noise[0]), noise[0] > 0.5])
  batch = np.concatenate([images, noise, extremes]).astype(np.float32)
  results = run(keys(9, seed), batch, EVERYTHING)
  assert results.dtype == jnp.float32
  assert np.all((results >= 0) & (results <= 1))  # False for a NaN


def test_wrong_shapes_and_types_are_refused(images):
  with pytest.raises(ValueError, match="one key for each of 3"):
    augment.augment(keys(2), levels(images), NOTHING)
  with pytest.raises(ValueError, match="float32"):
    augment.augment(keys(3), images, NOTHING)


@pytest.mark.parametrize(("platform", "at_once"), [("cpu", 64), ("gpu", 130)])
def test_a_gpu_augments_the_whole_batch_at_once(platform, at_once):
  rngs, images = keys(130), np.zeros((130, 16, 16, 3), np.uint8)
  policy = only(flip_probability=0.5).for_platform(platform)
  text = str(
    jax.make_jaxpr(functools.partial(augment.augment, policy=policy))(rngs, images)
  )
  for rows in (64, 130):
    assert (f"f32[{rows},16,16,3] = rev" in text) == (rows == at_once)
