"""Weighted nearest-neighbour classification of frozen features."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


@functools.partial(jax.jit, donate_argnames=("best",))
def _merge_block(
  best: tuple[jax.Array, jax.Array],
  queries: jax.Array,
  block: jax.Array,
  block_labels: jax.Array,
  valid: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Merges one block of training rows into the running neighbours of every query.

  Args:
    best: similarities [T, B, M] float32, nearest first, and their labels [T, B, M]
      int32, of the training rows seen so far; -inf where there are none yet.
    queries: test rows in T blocks, [T, B, D] float32.
    block: training rows, [B, D] float32.
    block_labels: [B] int32.
    valid: False where a training row is padding, [B] bool.

  Returns:
    The updated `best`.
  """

  def merge(
    block_of_queries: tuple[jax.Array, jax.Array, jax.Array],
  ) -> tuple[jax.Array, jax.Array]:
    similarities, labels, rows = block_of_queries
    # Accelerators would round float32 products to TF32 or bf16 by default.
    fresh = jnp.dot(rows, block.T, precision=lax.Precision.HIGHEST)
    fresh = jnp.where(valid[None], fresh, -jnp.inf)
    fresh_labels = jnp.broadcast_to(block_labels[None], fresh.shape)
    # Earlier rows stand first and top_k is stable, so ties go to the smaller row id.
    similarities, kept = lax.top_k(
      jnp.concatenate([similarities, fresh], axis=1), similarities.shape[1]
    )
    labels = jnp.concatenate([labels, fresh_labels], axis=1)
    return similarities, jnp.take_along_axis(labels, kept, axis=1)

  return lax.map(merge, (*best, queries))


def _pad_rows(rows: np.ndarray, count: int) -> np.ndarray:
  return np.pad(rows, [(0, count - len(rows))] + [(0, 0)] * (rows.ndim - 1))


def _nearest(
  train_features: np.ndarray,
  train_labels: np.ndarray,
  test_features: np.ndarray,
  *,
  neighbours: int,
  block_size: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Similarities and labels of the nearest rows, two arrays [N_test, M]."""
  # The test rows stay on the device and the training rows stream past them, so the
  # larger set crosses the bus once.
  blocks = -(-len(test_features) // block_size)
  queries = jnp.asarray(
    _pad_rows(test_features, blocks * block_size).reshape(blocks, block_size, -1)
  )
  shape = (blocks, block_size, neighbours)
  best = (jnp.full(shape, -jnp.inf, jnp.float32), jnp.zeros(shape, jnp.int32))
  for start in range(0, len(train_features), block_size):
    rows = train_features[start : start + block_size]
    labels = train_labels[start : start + block_size]
    best = _merge_block(
      best,
      queries,
      _pad_rows(rows, block_size),
      _pad_rows(labels, block_size),
      np.arange(block_size) < len(rows),
    )
  return tuple(
    np.asarray(part).reshape(-1, neighbours)[: len(test_features)] for part in best
  )


def _vote(
  similarities: np.ndarray,
  labels: np.ndarray,
  *,
  num_classes: int,
  temperature: float,
) -> np.ndarray:
  """Class with the largest sum of exp(similarity / temperature), [B]."""
  # One factor per test row changes no vote and keeps a small temperature finite.
  shifted = (similarities - similarities[:, :1]).astype(np.float64)
  weights = np.exp(shifted / temperature)
  # On the host: an accelerator's scatter-add sums in no fixed order.
  cells = np.arange(len(labels))[:, None] * num_classes + labels
  votes = np.bincount(
    cells.ravel(), weights.ravel(), minlength=len(labels) * num_classes
  )
  return votes.reshape(-1, num_classes).argmax(axis=1)


def weighted_knn_accuracy(
  train_features: np.ndarray,
  train_labels: np.ndarray,
  test_features: np.ndarray,
  test_labels: np.ndarray,
  *,
  num_classes: int,
  neighbours: int,
  temperature: float,
  block_size: int,
) -> float:
  """Classifies test rows by a vote of their nearest training rows.

  A neighbour of cosine similarity s votes for its class with exp(s / temperature);
  an infinite temperature is the majority vote. Of equal classes the smallest wins.
  The device holds the test rows, their running neighbours, one block of training
  rows and one [block_size, block_size] block of similarities at a time.

  Args:
    train_features: unit-norm, [N, D] float32.
    train_labels: [N] int32 in [0, num_classes).
    test_features: unit-norm, [N_test, D] float32.
    test_labels: [N_test] int32.
    num_classes: number of classes.
    neighbours: voters per test row.
    temperature: positive; the smaller, the more the nearest voters count.
    block_size: rows of either set compared at once; bounds memory alone.

  Returns:
    The fraction of test rows classified correctly, in [0, 1].

  Raises:
    ValueError: there are fewer training rows than neighbours, or a training label
      lies outside [0, num_classes).

  Reference: Wu et al. 2018 (arXiv 1805.01978), section 3.4.
  """
  if neighbours > len(train_features):
    raise ValueError(
      f"{neighbours} neighbours need as many training rows, but there are"
      f" {len(train_features)}: lower `neighbours` or give more training rows"
    )
  if train_labels.min() < 0 or train_labels.max() >= num_classes:
    raise ValueError(
      f"training labels span {train_labels.min()}..{train_labels.max()}, outside"
      f" [0, {num_classes}): correct `num_classes` or the labels"
    )
  similarities, labels = _nearest(
    train_features,
    train_labels,
    test_features,
    neighbours=neighbours,
    block_size=block_size,
  )
  correct = 0
  for start in range(0, len(labels), block_size):
    part = slice(start, start + block_size)
    predicted = _vote(
      similarities[part], labels[part], num_classes=num_classes, temperature=temperature
    )
    correct += int((predicted == test_labels[part]).sum())
  return correct / len(test_labels)
