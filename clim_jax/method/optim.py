"""Schedules and optimisers, all of them optax's."""

from typing import Any

import jax
import optax
from optax import Schedule

OPTIMIZERS = ("sgd", "lars", "adamw")


def learning_rate_schedule(
  *, peak: float, warmup_steps: int, total_steps: int
) -> Schedule:
  """Linear warm-up from 0 to `peak`, then half a cosine down to 0."""
  return optax.join_schedules(
    [
      optax.linear_schedule(0.0, peak, warmup_steps),
      optax.cosine_decay_schedule(peak, max(total_steps - warmup_steps, 1)),
    ],
    [warmup_steps],
  )


def momentum_schedule(kind: str, *, momentum: float, total_steps: int) -> Schedule:
  """Of the key encoder: "constant", or "cosine" from `momentum` to 1.

  Reference of the cosine: Grill et al. 2020 (arXiv 2006.07733), section 3.2.
  """
  if kind == "constant":
    return optax.constant_schedule(momentum)
  distance = optax.cosine_decay_schedule(1.0 - momentum, total_steps)
  return lambda step: 1.0 - distance(step)


def make_optimizer(
  name: str,
  learning_rate: Schedule,
  *,
  momentum: float,
  b1: float,
  b2: float,
  weight_decay: float,
  decay_all: bool,
) -> optax.GradientTransformation:
  """An optimiser of `OPTIMIZERS`.

  Args:
    name: "sgd" adds the decay to the gradient before the momentum, as PyTorch
      does; "adamw" decouples it; "lars" scales each layer.
    decay_all: False spares biases and batch normalisation (vectors), from the
      decay and from the scaling of LARS.
  """

  def matrices(params: Any) -> Any:
    return jax.tree.map(lambda p: decay_all or p.ndim > 1, params)

  if name == "sgd":
    return optax.chain(
      optax.add_decayed_weights(weight_decay, matrices),
      optax.sgd(learning_rate, momentum),
    )
  if name == "lars":
    return optax.lars(
      learning_rate,
      weight_decay=weight_decay,
      weight_decay_mask=matrices,
      trust_ratio_mask=matrices,
      momentum=momentum,
    )
  if name == "adamw":
    return optax.adamw(
      learning_rate, b1=b1, b2=b2, weight_decay=weight_decay, mask=matrices
    )
  raise ValueError(f"optimizer.name {name!r} must be one of {', '.join(OPTIMIZERS)}")
