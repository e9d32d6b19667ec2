"""Weighted nearest-neighbour classification of frozen features."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

from clim_jax import sharding

_BLOCK = 4096  # rows of either set that a device compares at once


class Neighbours(NamedTuple):
  """Of every query, nearest first."""

  similarities: np.ndarray  # cosines, [Q, M] float32
  labels: np.ndarray  # [Q, M] int32


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
    queries: this replica's test rows in T blocks, [T, B, D] float32.
    block: training rows, [B', D] float32.
    block_labels: [B'] int32.
    valid: False where a training row is padding, [B'] bool.

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


@functools.cache
def _mapped(mesh: Mesh) -> jax.stages.Wrapped:
  """`_merge_block` with the queries shared out and the training rows everywhere."""
  rows, everywhere = sharding.ROWS, sharding.REPLICATED
  return sharding.spmd(
    _merge_block,
    mesh,
    in_specs=((rows, rows), rows, everywhere, everywhere, everywhere),
    out_specs=(rows, rows),
    donate_argnums=(0,),
  )


def _pad_rows(rows: np.ndarray, count: int) -> np.ndarray:
  return np.pad(rows, [(0, count - len(rows))] + [(0, 0)] * (rows.ndim - 1))


def nearest(
  mesh: Mesh,
  train_features: np.ndarray,
  train_labels: np.ndarray,
  queries: np.ndarray,
  *,
  neighbours: int,
) -> Neighbours:
  """The nearest training rows of every query, exactly.

  The queries stay on the devices, each of which holds its share of them, their
  running neighbours, one block of training rows and one block of similarities. The
  training rows stream past, so the larger set crosses the bus once.

  Args:
    mesh: devices.
    train_features: unit-norm, [N, D] float32.
    train_labels: [N] int32.
    queries: unit-norm, [Q, D] float32.
    neighbours: M ≤ N.

  Raises:
    ValueError: there are fewer training rows than neighbours.
  """
  if neighbours > len(train_features):
    raise ValueError(
      f"{neighbours} neighbours need as many training rows, but there are"
      f" {len(train_features)}: lower `neighbours` or give more training rows"
    )
  devices = mesh.devices.size
  size = min(_BLOCK, -(-len(queries) // devices))
  blocks = -(-len(queries) // (size * devices)) * devices
  tiles = _pad_rows(queries, blocks * size).reshape(blocks, size, -1)
  mine = sharding.process_rows(mesh, blocks)
  shape = (mine.stop - mine.start, size, neighbours)
  best = (np.full(shape, -np.inf, np.float32), np.zeros(shape, np.int32))
  best, on_device = sharding.put_rows(mesh, (best, tiles[mine]))
  block = min(_BLOCK, len(train_features))
  for start in range(0, len(train_features), block):
    rows = train_features[start : start + block]
    labels = train_labels[start : start + block]
    best = _mapped(mesh)(
      best,
      on_device,
      _pad_rows(rows, block),
      _pad_rows(labels, block),
      np.arange(block) < len(rows),
    )
  found = (sharding.to_host(part).reshape(-1, neighbours) for part in best)
  return Neighbours(*(part[: len(queries)] for part in found))


def vote(
  found: Neighbours, *, num_classes: int, neighbours: int, temperature: float
) -> np.ndarray:
  """Class with the largest sum of exp(similarity / temperature), [Q] int64.

  An infinite temperature is the majority vote. Of equal classes the smallest wins.

  Args:
    found: at least `neighbours` of every query.
    num_classes: number of classes.
    neighbours: how many of them vote, the nearest first.
    temperature: positive; the smaller, the more the nearest voters count.

  Reference: Wu et al. 2018 (arXiv 1805.01978), section 3.4.
  """
  predicted = []
  for start in range(0, len(found.labels), _BLOCK):
    part = slice(start, start + _BLOCK)
    similarities, labels = (x[part, :neighbours] for x in found)
    # One factor per test row changes no vote and keeps a small temperature finite.
    shifted = (similarities - similarities[:, :1]).astype(np.float64)
    # On the host: an accelerator's scatter-add sums in no fixed order.
    cells = np.arange(len(labels))[:, None] * num_classes + labels
    votes = np.bincount(
      cells.ravel(),
      np.exp(shifted / temperature).ravel(),
      minlength=len(labels) * num_classes,
    )
    predicted.append(votes.reshape(-1, num_classes).argmax(axis=1))
  return np.concatenate(predicted)


def knn_accuracies(
  mesh: Mesh,
  train_features: np.ndarray,
  train_labels: np.ndarray,
  test_features: np.ndarray,
  test_labels: np.ndarray,
  *,
  num_classes: int,
  settings: Sequence[tuple[int, float]],
) -> list[float]:
  """Accuracy of each (neighbours, temperature); the search is done once.

  Args:
    mesh: devices.
    train_features: unit-norm, [N, D] float32.
    train_labels: [N] int32 in [0, num_classes).
    test_features: unit-norm, [N_test, D] float32.
    test_labels: [N_test] int32.
    num_classes: number of classes.
    settings: k and τ to try, see `vote`.

  Returns:
    The fraction of test rows classified correctly, in [0, 1], for each setting.

  Raises:
    ValueError: there are fewer training rows than neighbours, or a training label
      lies outside [0, num_classes).
  """
  if train_labels.min() < 0 or train_labels.max() >= num_classes:
    raise ValueError(
      f"training labels span {train_labels.min()}..{train_labels.max()}, outside"
      f" [0, {num_classes}): correct `num_classes` or the labels"
    )
  found = nearest(
    mesh,
    train_features,
    train_labels,
    test_features,
    neighbours=max(neighbours for neighbours, _ in settings),
  )
  return [
    float(
      np.mean(
        vote(found, num_classes=num_classes, neighbours=k, temperature=tau)
        == test_labels
      )
    )
    for k, tau in settings
  ]
