"""Softmax classifiers on fixed features, fit by L-BFGS or by stochastic gradients.

A head is one array [D + 1, C], the weights above the bias row: one leaf compiles
faster than two in the line search of L-BFGS.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

# Largest entry of the gradient at which L-BFGS stops; float32 noise lies near 1e-7.
GRADIENT_TOLERANCE = 1e-6
MOMENTUM = 0.9
# MoCo's probe multiplies the rate by 0.1 after 60% and 80% of training.
DECAY = 0.1
DECAY_AT = (0.6, 0.8)


def _logits(head: jax.Array, features: jax.Array) -> jax.Array:
  # Accelerators would round float32 products to TF32 or bf16 by default.
  return jnp.dot(features, head[:-1], precision=lax.Precision.HIGHEST) + head[-1:]


def _cross_entropy(
  head: jax.Array, features: jax.Array, labels: jax.Array
) -> jax.Array:
  losses = optax.softmax_cross_entropy_with_integer_labels(
    _logits(head, features), labels
  )
  return losses.mean()


def fit_logistic(
  features: jax.Array,
  labels: jax.Array,
  *,
  regulariser: jax.Array | float,
  num_classes: int,
  max_iterations: jax.Array | int,
) -> jax.Array:
  """Fits multinomial logistic regression by full-batch L-BFGS; vmap it freely.

  Minimises mean cross entropy + regulariser / 2 * ||W||^2, the bias free, from zero
  until the gradient is flat or the iterations are spent. Every lane of a vmap holds
  its own [N, C] logits; where those do not fit, use stochastic gradients.

  Args:
    features: [N, D] float32.
    labels: [N] int32 in [0, num_classes).
    regulariser: weight of the penalty, scalar.
    num_classes: number of classes.
    max_iterations: bound on the L-BFGS steps, scalar.

  Returns:
    Head, [D + 1, num_classes] float32.

  Reference: Liu and Nocedal 1989, https://doi.org/10.1007/BF01589116.
  """

  def objective(head: jax.Array) -> jax.Array:
    penalty = 0.5 * regulariser * jnp.sum(head[:-1] ** 2)
    return _cross_entropy(head, features, labels) + penalty

  optimiser = optax.lbfgs()

  def unfinished(carry: tuple) -> jax.Array:
    _, _, _, gradient, step = carry
    return (step < max_iterations) & (jnp.abs(gradient).max() > GRADIENT_TOLERANCE)

  def advance(carry: tuple) -> tuple:
    head, state, value, gradient, step = carry
    updates, state = optimiser.update(
      gradient, state, head, value=value, grad=gradient, value_fn=objective
    )
    # The line search has already evaluated the point it accepted.
    value, gradient = (optax.tree.get(state, name) for name in ("value", "grad"))
    return optax.apply_updates(head, updates), state, value, gradient, step + 1

  head = jnp.zeros((features.shape[1] + 1, num_classes), jnp.float32)
  start = (head, optimiser.init(head), *jax.value_and_grad(objective)(head), 0)
  return lax.while_loop(unfinished, advance, start)[0]


@functools.partial(jax.jit, static_argnames=("num_classes",))
def fit_regularisers(
  features: jax.Array,
  labels: jax.Array,
  regularisers: jax.Array,
  *,
  num_classes: int,
  max_iterations: int,
) -> jax.Array:
  """One L-BFGS head per regulariser, [R, D + 1, C]."""
  return jax.vmap(
    lambda regulariser: fit_logistic(
      features,
      labels,
      regulariser=regulariser,
      num_classes=num_classes,
      max_iterations=max_iterations,
    )
  )(regularisers)


@functools.partial(jax.jit, static_argnames=("num_classes", "epochs", "batch_size"))
def fit_learning_rates(
  features: jax.Array,
  labels: jax.Array,
  learning_rates: jax.Array,
  *,
  rng: jax.Array,
  num_classes: int,
  epochs: int,
  batch_size: int,
) -> jax.Array:
  """One head per learning rate, all trained on the same batches, [R, D + 1, C]."""
  rows, width = features.shape
  # A set smaller than a batch is one batch; otherwise each epoch drops its remainder.
  batch_size = min(batch_size, rows)
  steps = rows // batch_size
  schedule = optax.piecewise_constant_schedule(
    1.0, {round(at * epochs * steps): DECAY for at in DECAY_AT}
  )

  def fit(learning_rate: jax.Array) -> jax.Array:
    optimiser = optax.sgd(lambda step: learning_rate * schedule(step), MOMENTUM)

    def step(carry: tuple, ids: jax.Array) -> tuple[tuple, None]:
      head, state = carry
      # Nothing here depends on the rate but the head: vmap gathers a batch once.
      gradient = jax.grad(_cross_entropy)(head, features[ids], labels[ids])
      updates, state = optimiser.update(gradient, state)
      return (optax.apply_updates(head, updates), state), None

    def epoch(carry: tuple, rng: jax.Array) -> tuple[tuple, None]:
      order = jax.random.permutation(rng, rows)[: steps * batch_size]
      return lax.scan(step, carry, order.reshape(steps, batch_size))

    head = jnp.zeros((width + 1, num_classes), jnp.float32)
    start = (head, optimiser.init(head))
    return lax.scan(epoch, start, jax.random.split(rng, epochs))[0][0]

  return jax.vmap(fit)(learning_rates)


@jax.jit
def _count_correct(
  heads: jax.Array, features: jax.Array, labels: jax.Array
) -> jax.Array:
  """Rows each head classifies correctly, [R] int32."""

  def count(head: jax.Array) -> jax.Array:
    logits = _logits(head, features)
    # The argmax of NaNs is class 0: a head that diverged must not earn its share.
    finite = jnp.isfinite(logits).all(axis=1)
    return jnp.sum((logits.argmax(axis=1) == labels) & finite)

  # One head at a time, so that only one [N, C] array of logits lives.
  return lax.map(count, heads)


def head_accuracies(
  heads: jax.Array, features: np.ndarray, labels: np.ndarray
) -> list[float]:
  """Fraction of rows each head classifies correctly.

  Args:
    heads: [R, D + 1, C] float32.
    features: [N, D] float32.
    labels: [N] int32.

  Returns:
    R accuracies in [0, 1]. A head that diverged is right nowhere.
  """
  counts = np.asarray(_count_correct(heads, features, labels))
  return (counts / len(labels)).tolist()
