"""Optimisers and schedules against their equations, in NumPy."""

import math

import jax
import numpy as np
import pytest

from clim_jax.method import optim

RATES, MOMENTUM, DECAY, B1, B2 = (0.5, 0.25, 0.125), 0.9, 0.1, 0.8, 0.95
PARAMS = {"bias": np.array([3.0, -1.0]), "kernel": np.array([[1.0, -2.0], [0.5, 4.0]])}


def _gradients(step):
  rng = np.random.default_rng(step)
  return {name: rng.normal(size=value.shape) for name, value in PARAMS.items()}


def _trained(name, decay_all):
  """Parameters after three steps, each at its own rate."""
  optimizer = optim.make_optimizer(
    name,
    lambda step: jax.numpy.array(RATES)[step],
    momentum=MOMENTUM,
    b1=B1,
    b2=B2,
    weight_decay=DECAY,
    decay_all=decay_all,
  )
  params = jax.tree.map(np.float32, PARAMS)
  state = optimizer.init(params)
  for step in range(len(RATES)):
    gradients = jax.tree.map(np.float32, _gradients(step))
    updates, state = optimizer.update(gradients, state, params)
    params = jax.tree.map(lambda p, u: p + u, params, updates)
  return params


def _sgd(param, moments, gradient, rate, decay):
  velocity = MOMENTUM * moments.get("v", 0) + gradient + decay * param
  return param - rate * velocity, {"v": velocity}


def _lars(param, moments, gradient, rate, decay):
  # You et al. 2017 (arXiv 1708.03888); what is not decayed is not scaled either.
  gradient = gradient + decay * param
  trust = 1e-3 * np.linalg.norm(param) / np.linalg.norm(gradient) if decay else 1.0
  velocity = MOMENTUM * moments.get("v", 0) + rate * trust * gradient
  return param - velocity, {"v": velocity}


def _adamw(param, moments, gradient, rate, decay):
  step = moments.get("step", 0) + 1
  mean = B1 * moments.get("mean", 0) + (1 - B1) * gradient
  square = B2 * moments.get("square", 0) + (1 - B2) * gradient**2
  direction = (mean / (1 - B1**step)) / (np.sqrt(square / (1 - B2**step)) + 1e-8)
  moved = param - rate * (direction + decay * param)
  return moved, {"step": step, "mean": mean, "square": square}


@pytest.mark.parametrize("decay_all", [True, False])
@pytest.mark.parametrize(
  ("name", "update"), [("sgd", _sgd), ("lars", _lars), ("adamw", _adamw)]
)
def test_three_steps_are_those_of_the_equations(name, update, decay_all):
  found = _trained(name, decay_all)
  for leaf, expected in PARAMS.items():
    moments, decay = {}, DECAY if decay_all or leaf == "kernel" else 0.0
    for step, rate in enumerate(RATES):
      gradient = _gradients(step)[leaf]
      expected, moments = update(expected, moments, gradient, rate, decay)
    np.testing.assert_allclose(found[leaf], expected, rtol=1e-5, err_msg=leaf)


def test_an_unknown_optimizer_is_refused_by_name():
  with pytest.raises(ValueError, match=r"'adam' must be one of sgd, lars, adamw"):
    _trained("adam", True)


@pytest.mark.parametrize("warmup", [0, 4])
def test_the_rate_rises_in_a_line_and_falls_as_half_a_cosine(warmup):
  total, peak = 20, 0.6
  schedule = optim.learning_rate_schedule(
    peak=peak, warmup_steps=warmup, total_steps=total
  )
  rising = [peak * step / warmup for step in range(warmup)]
  falling = [
    peak * (1 + math.cos(math.pi * step / (total - warmup))) / 2
    for step in range(total - warmup + 1)
  ]
  found = [float(schedule(step)) for step in range(total + 1)]
  np.testing.assert_allclose(found, rising + falling, atol=1e-7)


def test_the_momentum_stays_or_rises_to_one():
  constant, cosine = (
    optim.momentum_schedule(kind, momentum=0.99, total_steps=10)
    for kind in ("constant", "cosine")
  )
  assert {float(constant(step)) for step in range(11)} == {0.99}
  # Grill et al. 2020: 1 − (1 − τ)·(cos(π·k/K) + 1)/2.
  expected = [1 - 0.01 * (math.cos(math.pi * k / 10) + 1) / 2 for k in range(11)]
  np.testing.assert_allclose([float(cosine(k)) for k in range(11)], expected, rtol=1e-6)
