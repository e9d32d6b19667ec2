"""MoCo's linear probe: SGD on a frozen backbone that sees random crops and flips.

Many settings are trained in one pass: the features of a batch serve all heads.
"""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from clim_jax import sharding
from clim_jax.data.labelled import LabelledBatch
from clim_jax.models.encoder import Encoder
from clim_jax.probes import sgd
from clim_jax.probes.heads import cross_entropy
from clim_jax.probes.subjects import RawPixels, Subject, apply

_DECAY = 0.1


class Rates(NamedTuple):
  """One of each a head."""

  learning: jax.Array  # [R] float32
  decay: jax.Array  # of all weights and the bias, [R] float32


class Heads(NamedTuple):
  weights: jax.Array  # [R, D + 1, C] float32, the bias last
  momentum: Any  # of the weights, optax's


def train_heads(
  mesh: Mesh,
  subject: Subject,
  batches: Iterable[LabelledBatch],
  *,
  settings: list[tuple[float, float]],
  layer: str,
  dim: int,
  num_classes: int,
  total_steps: int,
) -> np.ndarray:
  """One head per (learning rate, weight decay), [R, dim + 1, num_classes] float32.

  Args:
    mesh: devices, which share out each batch.
    subject: whose features are classified; its parameters stay as they are.
    batches: this process's rows of `total_steps` batches.
    settings: R of them. The rate is that of the batch, not scaled by its size.
    layer: one of `LAYERS`.
    dim: width of that layer.
    num_classes: number of classes.
    total_steps: after 60% and 80% of them the rate falls to a tenth.

  Reference: He et al. 2020 (arXiv 1911.05722), section 4.1.
  """
  step = _compiled(mesh, subject.encoder, layer)
  rates = Rates(*(np.asarray(x, np.float32) for x in zip(*settings, strict=True)))
  nothing = np.zeros((len(settings), dim + 1, num_classes), np.float32)
  heads = Heads(nothing, sgd.momentum.init(nothing))
  heads = jax.device_put(heads, sharding.replicated(mesh))
  for images, labels, factor in sgd.steps(
    mesh, batches, total_steps=total_steps, decay=_DECAY
  ):
    heads = step(heads, subject.variables, images, labels, rates, factor)
  return sharding.to_host(heads.weights)


@functools.cache
def _compiled(mesh: Mesh, encoder: Encoder | RawPixels, layer: str) -> Any:
  def step(
    heads: Heads,
    variables: Any,
    images: jax.Array,
    labels: jax.Array,
    rates: Rates,
    factor: jax.Array,
  ) -> Heads:
    features, _ = apply(encoder, variables, images, layer=layer)
    gradients = jax.vmap(jax.grad(cross_entropy), (0, None, None))(
      heads.weights, features, labels
    )
    learning, decay = (x[:, None, None] for x in rates)
    gradients += decay * heads.weights
    updates, momentum = sgd.momentum.update(gradients, heads.momentum)
    return Heads(heads.weights - factor * learning * updates, momentum)

  return sgd.jit(mesh, step, donate_argnums=(0,))
