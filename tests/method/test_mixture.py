import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from clim_jax import rng
from clim_jax.method import mixture

SIDE, DRAWS = 16, 4000

run = jax.jit(mixture.mix, static_argnames=("kind", "alpha"))


def _rngs(count, seed=0):
  return rng.per_row(jax.random.key(seed), np.arange(count))


@functools.cache
def _black_and_white(kind, alpha):
  """Many mixtures of an anchor of zeros with a positive of ones, and the ratios."""
  shape = (DRAWS, SIDE, SIDE, 1)
  anchors, positives = np.zeros(shape, np.float32), np.ones(shape, np.float32)
  mixed, ratio = run(kind, _rngs(DRAWS), anchors, positives, alpha=alpha)
  return np.asarray(mixed[..., 0]), np.asarray(ratio)


def _masks(alpha=2.0):
  """Where each CutMix shows its positive."""
  return _black_and_white("cutmix", alpha)


def _random_images(seed):
  # An odd side, unlike the above.
  return np.random.default_rng(seed).random((5, 7, 7, 3)).astype(np.float32)


@pytest.mark.parametrize("alpha", [1e-3, 2.0, 1e3])
def test_cutmix_ratio_is_the_counted_share_of_the_anchor(alpha):
  mask, ratio = _masks(alpha)
  assert set(np.unique(mask)) <= {0.0, 1.0}
  # Counts of 256 pixels are exact in float32.
  np.testing.assert_array_equal(ratio, 1 - mask.mean(axis=(1, 2)))


def test_cutmix_pastes_one_rectangle_clipped_at_the_border():
  mask, _ = _masks()
  rows, columns = mask.max(axis=2), mask.max(axis=1)
  np.testing.assert_array_equal(mask, rows[:, :, None] * columns[:, None, :])
  for line in (rows, columns):
    starts = (np.diff(line, prepend=0, axis=1) == 1).sum(axis=1)
    assert (starts <= 1).all()
  # Before clipping a box is square; some are cut on every side.
  clipped = rows.sum(axis=1) != columns.sum(axis=1)
  for edge in (rows[:, 0], rows[:, -1], columns[:, 0], columns[:, -1]):
    assert (clipped & (edge == 1)).sum() > DRAWS / 20


def test_mean_cutmix_ratio_is_what_clipping_leaves():
  # A side e = √u of the image, u = 1 − λ ~ Beta(2, 2), centered uniformly, keeps
  # e − e²/4 inside: E[(e − e²/4)²] = E[u] − E[u^1.5]/2 + E[u²]/16, with
  # E[u^p] = 6 / ((p + 2)(p + 3)).
  pasted = 6 / (3 * 4) - 6 / (3.5 * 4.5) / 2 + 6 / (4 * 5) / 16
  _, ratio = _masks()
  # Four standard errors of the mean, 0.2/√4000 each.
  assert abs(ratio.mean() - (1 - pasted)) < 4 * ratio.std() / np.sqrt(DRAWS)
  assert ratio.std() < 0.25


def test_boxes_lie_anywhere_in_the_image():
  mask, _ = _masks()
  share = mask.mean(axis=0)
  # Symmetric about the middle: ten standard errors, 0.5/√4000 each.
  np.testing.assert_allclose(share, share[::-1], atol=0.08)
  np.testing.assert_allclose(share, share[:, ::-1], atol=0.08)
  np.testing.assert_allclose(share, share.T, atol=0.08)


def test_cutmix_takes_every_pixel_from_one_image_at_the_same_place():
  anchors, positives = _random_images(0), _random_images(1)
  mixed, ratio = run("cutmix", _rngs(5), anchors, positives, alpha=2.0)
  from_positive = (np.asarray(mixed) == positives).all(axis=-1)
  expected = np.where(from_positive[..., None], positives, anchors)
  np.testing.assert_array_equal(mixed, expected)
  np.testing.assert_allclose(ratio, 1 - from_positive.mean(axis=(1, 2)), atol=1e-7)


def test_mixup_is_the_weighted_mean_of_the_pixels():
  anchors, positives = _random_images(0), _random_images(1)
  mixed, ratio = run("mixup", _rngs(5), anchors, positives, alpha=2.0)
  ratio = np.asarray(ratio)[:, None, None, None]
  expected = ratio * anchors.astype(float) + (1 - ratio) * positives
  np.testing.assert_allclose(mixed, expected, atol=2e-7)  # an ulp or two of 1


def test_mixup_ratio_has_the_moments_of_beta():
  _, ratio = _black_and_white("mixup", 2.0)
  # Beta(2, 2): mean ½, variance 1/20; four standard errors, √(1/20/4000) each.
  assert abs(ratio.mean() - 0.5) < 0.0142
  assert ratio.var() == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("kind", mixture.MIXTURES)
def test_an_image_is_mixed_whatever_stands_beside_it(kind):
  anchors, positives, rngs = _random_images(0), _random_images(1), _rngs(5)
  mixed, ratio = run(kind, rngs, anchors, positives, alpha=2.0)
  assert len(set(np.asarray(ratio).tolist())) > 2  # each has its own draw
  order = np.array([3, 0, 4, 1, 2])
  # Beside other images, in another place: only rows 0 and 3 are as before.
  beside, beside_ratio = run(
    kind,
    rngs[order],
    np.where(np.isin(order, (0, 3))[:, None, None, None], anchors[order], 0),
    positives[order],
    alpha=2.0,
  )
  np.testing.assert_array_equal(np.asarray(beside)[[1, 0]], np.asarray(mixed)[[0, 3]])
  np.testing.assert_array_equal(beside_ratio, np.asarray(ratio)[order])


@pytest.mark.parametrize("kind", mixture.MIXTURES)
def test_an_image_mixed_with_itself_stays(kind):
  images = _random_images(0)
  mixed, _ = run(kind, _rngs(5), images, images, alpha=2.0)
  np.testing.assert_allclose(mixed, images, atol=2e-7)  # an ulp or two of 1


@pytest.mark.parametrize("kind", mixture.MIXTURES)
@pytest.mark.parametrize("alpha", [1e-4, 0.1, 1.0, 1e5])
def test_extreme_alphas_give_shares_in_range(kind, alpha):
  mixed, ratio = _black_and_white(kind, alpha)
  assert ((ratio >= 0) & (ratio <= 1)).all()
  np.testing.assert_allclose(mixed.mean(axis=(1, 2)), 1 - ratio, atol=1e-5)


def test_a_large_alpha_mixes_evenly_and_a_small_one_not_at_all():
  # Beta's standard deviation is 1/√(8α) ≈ 0.001; small α: zeros and ones.
  np.testing.assert_allclose(_black_and_white("mixup", 1e5)[1], 0.5, atol=0.01)
  extremes = _black_and_white("mixup", 1e-4)[1]
  assert ((extremes < 0.01) | (extremes > 0.99)).mean() > 0.99
  assert 0.4 < extremes.mean() < 0.6


def _p_values(shares, beta, low, high):
  """How well a range of shares agrees with Beta: their number, and where they lie."""
  part = shares[(shares >= low) & (shares < high)]
  below, mass = beta.cdf(low), beta.cdf(high) - beta.cdf(low)
  number = stats.binomtest(len(part), len(shares), mass).pvalue
  return number, stats.kstest(part, lambda x: (beta.cdf(x) - below) / mass).pvalue


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0, 8.0])
def test_shares_are_drawn_from_beta(alpha):
  draw = jax.vmap(lambda rng: mixture.draw_ratio(rng, alpha=alpha))
  shares = np.asarray(draw(_rngs(100_000)))
  assert shares.min() >= 0
  assert shares.max() <= 1
  # By ranges: next to 1 float32 has no room for the many shares of a small α.
  for low, high in ((0, 0.5), (0.5, 0.999)):
    assert min(_p_values(shares, stats.beta(alpha, alpha), low, high)) > 0.001
  assert min(_p_values(shares, stats.beta(1.05 * alpha, 1.05 * alpha), 0, 0.5)) < 0.001


def test_no_draw_waits_for_a_loop():
  def loops(draw):
    traced = jax.jit(draw).trace(jax.random.key(0))
    return "while" in traced.lower(lowering_platforms=("cuda",)).as_text()

  assert not loops(lambda rng: mixture.draw_ratio(rng, alpha=2.0))
  assert loops(lambda rng: jax.random.beta(rng, 2.0, 2.0))


@pytest.mark.parametrize("kind", mixture.MIXTURES)
def test_a_share_of_one_mixes_nothing_wherever_the_center_lies(kind, monkeypatch):
  monkeypatch.setattr(mixture, "draw_ratio", lambda rng, *, alpha: jnp.float32(1))
  # Of so small images a sixteenth have the center of their box in the last corner.
  anchors, positives = np.zeros((256, 2, 2, 3)), np.ones((256, 2, 2, 3))
  rngs = jax.random.split(jax.random.key(0), len(anchors))
  mixed, ratio = mixture.mix(kind, rngs, anchors, positives, alpha=2.0)
  np.testing.assert_array_equal(mixed, anchors)
  np.testing.assert_array_equal(ratio, np.ones(256))
