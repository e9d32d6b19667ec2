import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clim_jax import sharding
from clim_jax.models import norm
from clim_jax.models.cpu import sums
from clim_jax.models.norm import GroupedBatchNorm

SHAPE, CHANNELS = (16, 3, 5, 4), 4
# E[x²] − E[x]² is taken in float32, of means up to eight standard deviations: it
# loses a factor of 64 to the rounding of 6e-8.
ROUNDING = 2e-5


def _inputs():
  x = np.random.default_rng(0).normal(size=SHAPE)
  shift = np.arange(16).reshape(16, 1, 1, 1) / 4  # so that groups differ
  return (x * [0.5, 1, 2, 3] + shift).astype(np.float32)


def _variables():
  rng = np.random.default_rng(1)
  draw = lambda low: rng.uniform(low, 2, CHANNELS).astype(np.float32)  # noqa: E731
  return {
    "params": {"scale": draw(0.5), "bias": draw(-2)},
    "batch_stats": {"mean": draw(-2), "var": draw(0.5)},
  }


def _apply(x, *, groups, variables=None, dtype=jnp.float32):
  """Training-mode output and running statistics."""
  layer = GroupedBatchNorm(groups, sums.row_sums, dtype)
  out, updated = layer.apply(
    variables or _variables(), x, train=True, mutable=["batch_stats"]
  )
  return out, updated["batch_stats"]


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_each_group_is_normalised_by_its_own_statistics(groups):
  x, variables = _inputs().astype(np.float64), _variables()
  params, before = variables["params"], variables["batch_stats"]
  expected, means, variances = [], [], []
  for rows in np.split(x, groups):
    means.append(rows.mean(axis=(0, 1, 2)))
    variances.append(rows.var(axis=(0, 1, 2)))
    normal = (rows - means[-1]) / np.sqrt(variances[-1] + 1e-5)
    expected.append(normal * params["scale"] + params["bias"])
  out, stats = _apply(_inputs(), groups=groups)
  np.testing.assert_allclose(out, np.concatenate(expected), atol=ROUNDING)
  for name, values in (("mean", means), ("var", variances)):
    after = 0.9 * before[name] + 0.1 * np.mean(values, axis=0)
    np.testing.assert_allclose(stats[name], after, rtol=ROUNDING)


def _flax(train):
  return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5)


def test_one_group_is_flax_batch_normalisation():
  x, variables = _inputs(), _variables()
  expected, updated = _flax(True).apply(variables, x, mutable=["batch_stats"])
  out, stats = _apply(x, groups=1)
  np.testing.assert_allclose(out, expected, atol=ROUNDING)
  for name in ("mean", "var"):
    np.testing.assert_allclose(stats[name], updated["batch_stats"][name], rtol=ROUNDING)


@pytest.mark.parametrize("groups", [1, 8])
def test_evaluation_is_that_of_flax_for_any_batch(groups):
  # Three rows do not divide by eight groups.
  x, variables = _inputs()[:3], _variables()
  out = GroupedBatchNorm(groups, norm.row_sums, jnp.float32).apply(
    variables, x, train=False
  )
  expected = _flax(False).apply(variables, x)
  np.testing.assert_allclose(out, expected, atol=ROUNDING)


def test_gradients_are_those_of_flax():
  x, variables = _inputs(), _variables()
  weight = np.random.default_rng(2).normal(size=SHAPE).astype(np.float32)

  def ours(params, x):
    return jnp.sum(weight * _apply(x, groups=1, variables=variables | params)[0])

  def theirs(params, x):
    out, _ = _flax(True).apply(variables | params, x, mutable=["batch_stats"])
    return jnp.sum(weight * out)

  params = {"params": variables["params"]}
  found, expected = (jax.grad(f, argnums=(0, 1))(params, x) for f in (ours, theirs))
  # Sums of 240 terms of order 1.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected
  )


def test_groups_on_one_device_are_groups_of_one_on_as_many_devices():
  x = _inputs()
  together, stats = _apply(x, groups=8)

  def replica(x):
    out, stats = _apply(x, groups=1)
    return out, jax.lax.pmean(stats, sharding.AXIS)

  mapped = sharding.spmd(
    replica,
    sharding.make_mesh(jax.devices()[:8]),
    in_specs=sharding.ROWS,
    out_specs=(sharding.ROWS, sharding.REPLICATED),
  )
  apart, apart_stats = mapped(x)
  np.testing.assert_allclose(apart, together, atol=ROUNDING)
  for name in ("mean", "var"):
    np.testing.assert_allclose(apart_stats[name], stats[name], rtol=ROUNDING)


def test_initialising_leaves_the_running_statistics_alone():
  layer = GroupedBatchNorm(2, norm.row_sums, jnp.float32)
  variables = layer.init(jax.random.key(0), _inputs(), train=True)
  np.testing.assert_array_equal(variables["batch_stats"]["mean"], 0)
  np.testing.assert_array_equal(variables["batch_stats"]["var"], 1)


def test_a_constant_channel_stays_finite():
  # E[x²] − E[x]² may round below zero.
  x = np.full(SHAPE, 1234.567, np.float32)
  out, stats = _apply(x, groups=4)
  assert np.isfinite(out).all()
  assert (np.asarray(stats["var"]) >= 0).all()


def test_statistics_of_half_precision_are_float32():
  x = jnp.asarray(_inputs(), jnp.bfloat16)
  out, stats = _apply(x, groups=2, dtype=jnp.bfloat16)
  assert out.dtype == jnp.bfloat16
  wide, wide_stats = _apply(x.astype(jnp.float32), groups=2)
  np.testing.assert_array_equal(out, wide.astype(jnp.bfloat16))  # rounded only once
  for name in ("mean", "var"):
    assert stats[name].dtype == jnp.float32
    np.testing.assert_allclose(stats[name], wide_stats[name], rtol=ROUNDING)


@pytest.mark.parametrize("at_once", [8, 16])
@pytest.mark.parametrize("rows", [5, 32, 96, 100])
@pytest.mark.parametrize("row_sums", [norm.row_sums, sums.row_sums])
def test_sums_do_not_depend_on_how_many_rows_are_added_at_once(row_sums, rows, at_once):
  terms = np.random.default_rng(0).normal(size=(2, 3, rows, 4)).astype(np.float32)
  found = jax.jit(functools.partial(row_sums, at_once))(*terms)
  expected = terms.sum(axis=2, dtype=np.float64)
  np.testing.assert_allclose(found, expected, atol=ROUNDING)


def test_no_gradient_flows_through_the_running_statistics():
  x = jnp.asarray(_inputs())

  def total(x):
    return sum(jnp.sum(leaf) for leaf in _apply(x, groups=2)[1].values())

  np.testing.assert_array_equal(jax.grad(total)(x), 0)
