"""Softmax classifiers on fixed features, fit by L-BFGS.

A head is one array [D + 1, C], the weights above the bias row: one leaf compiles
faster than two in the line search of L-BFGS.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh

from clim_jax import sharding

# Largest entry of the gradient at which L-BFGS stops; float32 noise lies near 1e-7.
GRADIENT_TOLERANCE = 1e-6


def logits(head: jax.Array, features: jax.Array) -> jax.Array:
  """[D + 1, C] and [B, D] to [B, C]."""
  # Accelerators would round float32 products to TF32 or bf16 by default.
  return jnp.dot(features, head[:-1], precision=lax.Precision.HIGHEST) + head[-1:]


def cross_entropy(
  head: jax.Array,
  features: jax.Array,
  labels: jax.Array,
  weights: jax.Array | None = None,
) -> jax.Array:
  """Mean over the rows; with `weights`, [N] float32, the weighted mean."""
  losses = optax.softmax_cross_entropy_with_integer_labels(
    logits(head, features), labels
  )
  return losses.mean() if weights is None else losses @ weights / weights.sum()


def fit_logistic(
  features: jax.Array,
  labels: jax.Array,
  *,
  regulariser: jax.Array | float,
  num_classes: int,
  max_iterations: jax.Array | int,
  weights: jax.Array | None = None,
) -> jax.Array:
  """Fits multinomial logistic regression by full-batch L-BFGS; vmap it freely.

  Minimises mean cross entropy + regulariser / 2 * ||W||^2, the bias free, from zero
  until the gradient is flat or the iterations are spent. Holds [N, C] logits.

  Args:
    features: [N, D] float32.
    labels: [N] int32 in [0, num_classes).
    regulariser: weight of the penalty, scalar.
    num_classes: number of classes.
    max_iterations: bound on the L-BFGS steps, scalar.
    weights: of the rows in the mean, [N] float32; None: all alike.

  Returns:
    Head, [D + 1, num_classes] float32.
  """

  def objective(head: jax.Array) -> jax.Array:
    penalty = 0.5 * regulariser * jnp.sum(head[:-1] ** 2)
    return cross_entropy(head, features, labels, weights) + penalty

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


class SharedRows(NamedTuple):
  """Rows shared out among the devices, filled up with rows of no weight."""

  features: jax.Array  # [N_pad, D] float32
  labels: jax.Array  # [N_pad] int32

  @classmethod
  def put(cls, mesh: Mesh, features: np.ndarray, labels: np.ndarray) -> "SharedRows":
    filling = -len(features) % mesh.devices.size
    mine = sharding.process_rows(mesh, len(features) + filling)
    # Filled up with the last row: a process may hold nothing but filling.
    ids = np.minimum(np.arange(mine.start, mine.stop), len(features) - 1)
    return cls(*sharding.put_rows(mesh, (features[ids], labels[ids])))


def fit_regularisers(
  mesh: Mesh,
  rows: SharedRows,
  fitted: np.ndarray,
  regularisers: np.ndarray,
  *,
  num_classes: int,
  max_iterations: int,
) -> np.ndarray:
  """One L-BFGS head per regulariser, [R, D + 1, C] float32, one after another.

  Args:
    mesh: devices, which hold the rows.
    rows: all of them.
    fitted: ids of those to fit; the others have no weight.
    regularisers: [R] float32.
    num_classes: C.
    max_iterations: bound on the L-BFGS steps.
  """
  weights = np.zeros(len(rows.labels), np.float32)
  weights[fitted] = 1.0
  weights = sharding.put_rows(mesh, weights[sharding.process_rows(mesh, len(weights))])
  heads = _compiled(mesh, num_classes)(rows, weights, regularisers, max_iterations)
  return sharding.to_host(heads)


@functools.cache
def _compiled(mesh: Mesh, num_classes: int) -> jax.stages.Wrapped:
  def fit(
    rows: SharedRows, weights: jax.Array, regularisers: jax.Array, iterations: jax.Array
  ) -> jax.Array:
    return lax.map(
      lambda regulariser: fit_logistic(
        *rows,
        regulariser=regulariser,
        num_classes=num_classes,
        max_iterations=iterations,
        weights=weights,
      ),
      regularisers,
    )

  return jax.jit(fit, out_shardings=sharding.replicated(mesh))


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
