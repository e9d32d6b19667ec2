"""Fine-tuning: a network and a new head, trained on labels at rates of their own."""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from clim_jax import sharding
from clim_jax.data.labelled import LabelledBatch
from clim_jax.models.encoder import Encoder
from clim_jax.probes import sgd
from clim_jax.probes.heads import cross_entropy
from clim_jax.probes.subjects import RawPixels, Subject, apply

_DECAY = 0.2


class Tuned(NamedTuple):
  """What is trained; the head is [F + 1, C] float32, the bias last."""

  params: Any
  head: jax.Array


class _State(NamedTuple):
  weights: Tuned
  momentum: Any  # of the weights, optax's
  stats: Any  # running statistics of batch normalisation


def finetune(
  mesh: Mesh,
  subject: Subject,
  batches: Iterable[LabelledBatch],
  *,
  learning_rate: float,
  head_learning_rate: float,
  dim: int,
  num_classes: int,
  total_steps: int,
) -> tuple[Subject, np.ndarray]:
  """Trains the whole network from `subject`, and a head from zero.

  SGD with momentum and without weight decay. Batch normalisation uses and follows the
  statistics of the whole batch, whatever number of devices shares it out.

  Args:
    mesh: devices.
    subject: where to start; it stays as it is.
    batches: this process's rows of `total_steps` batches.
    learning_rate: of the backbone.
    head_learning_rate: of the head.
    dim: F, of the backbone's features.
    num_classes: C.
    total_steps: after 60% and 80% of them both rates fall to a fifth.

  Returns:
    The tuned network, and its head, [F + 1, C] float32.

  Reference: Caron et al. 2020 (arXiv 2006.09882), semi-supervised learning.
  """
  step = _compiled(mesh, subject.encoder)
  head = np.zeros((dim + 1, num_classes), np.float32)
  weights = Tuned(subject.variables["params"], head)
  state = _State(weights, sgd.momentum.init(weights), subject.variables["batch_stats"])
  state = jax.device_put(state, sharding.replicated(mesh))
  rates = np.float32([learning_rate, head_learning_rate])
  for images, labels, factor in sgd.steps(
    mesh, batches, total_steps=total_steps, decay=_DECAY
  ):
    state = step(state, images, labels, rates * factor)
  variables = {"params": state.weights.params, "batch_stats": state.stats}
  return subject._replace(variables=variables), sharding.to_host(state.weights.head)


@functools.cache
def _compiled(mesh: Mesh, encoder: Encoder | RawPixels) -> Any:
  def step(
    state: _State, images: jax.Array, labels: jax.Array, rates: jax.Array
  ) -> _State:
    def loss(weights: Tuned) -> tuple[jax.Array, Any]:
      variables = {"params": weights.params, "batch_stats": state.stats}
      features, stats = apply(encoder, variables, images, train=True)
      return cross_entropy(weights.head, features, labels), stats

    gradients, stats = jax.grad(loss, has_aux=True)(state.weights)
    updates, momentum = sgd.momentum.update(gradients, state.momentum)
    scaled = (
      jax.tree.map(lambda update, rate=rate: -rate * update, part)
      for rate, part in zip(rates, updates, strict=True)
    )
    weights = optax.apply_updates(state.weights, Tuned(*scaled))
    return _State(weights, momentum, stats)

  return sgd.jit(mesh, step)
