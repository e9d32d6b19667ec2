"""Ranges of a policy, and its draws against chance."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from policies import EVERYTHING, NOTHING
from scipy import stats

from clim_jax.augment.policy import draw_jitter


def only(**values):
  return dataclasses.replace(NOTHING, **values)


def keys(count):
  return jax.random.split(jax.random.key(0), count)


def test_all_24_orders_are_equally_likely():
  draw_all = jax.vmap(functools.partial(draw_jitter, policy=EVERYTHING))
  orders, _, _ = draw_all(keys(4800))
  _, counts = np.unique(orders, axis=0, return_counts=True)
  assert len(counts) == 24
  assert stats.chisquare(counts).pvalue > 1e-3


def test_strengths_are_uniform_around_the_identity():
  policy = only(brightness=0.3, contrast=0.5, saturation=3.0, hue=0.1)
  draw_all = jax.vmap(functools.partial(draw_jitter, policy=policy))
  _, factors, shift = draw_all(keys(4800))
  values = (*np.asarray(factors).T, np.asarray(shift))
  # No factor is negative, however strong: it would invert.
  ranges = ((0.7, 1.3), (0.5, 1.5), (0.0, 4.0), (-0.1, 0.1))
  for drawn, (low, high) in zip(values, ranges, strict=True):
    assert stats.kstest(drawn, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    # KS is weak at the ends, where it would miss a range wrong by a percent.
    np.testing.assert_allclose(
      (drawn.min(), drawn.max()), (low, high), atol=0.002 * (high - low)
    )


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"flip_probability": 1.5}, "flip_probability 1.5"),
    ({"contrast": -0.1}, "negative"),
    ({"hue": 0.6}, "hue 0.6"),
    ({"blur_probability": 0.5}, "blur_sigma"),
    ({"blur_probability": 0.5, "blur_sigma": (2.0, 1.0)}, "blur_sigma"),
  ],
)
def test_a_policy_out_of_range_is_refused(values, message):
  with pytest.raises(ValueError, match=message):
    only(**values)
