"""Softmax classifiers on fixed features, fit by L-BFGS.

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


def logits(head: jax.Array, features: jax.Array) -> jax.Array:
  """[D + 1, C] and [B, D] to [B, C]."""
  # Accelerators would round float32 products to TF32 or bf16 by default.
  return jnp.dot(features, head[:-1], precision=lax.Precision.HIGHEST) + head[-1:]


def cross_entropy(head: jax.Array, features: jax.Array, labels: jax.Array) -> jax.Array:
  """Mean over the rows."""
  losses = optax.softmax_cross_entropy_with_integer_labels(
    logits(head, features), labels
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
    return cross_entropy(head, features, labels) + penalty

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


@jax.jit
def _count_correct(
  heads: jax.Array, features: jax.Array, labels: jax.Array
) -> jax.Array:
  """Rows each head classifies correctly, [R] int32."""

  def count(head: jax.Array) -> jax.Array:
    scores = logits(head, features)
    # The argmax of NaNs is class 0: a head that diverged must not earn its share.
    finite = jnp.isfinite(scores).all(axis=1)
    return jnp.sum((scores.argmax(axis=1) == labels) & finite)

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
