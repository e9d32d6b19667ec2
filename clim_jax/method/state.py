"""Everything a run needs to go on, and how it begins."""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from clim_jax import rng
from clim_jax.method import key_queue
from clim_jax.method.key_queue import KeyQueue
from clim_jax.models.encoder import Encoder


@flax.struct.dataclass
class TrainState:
  step: jax.Array  # updates done, [] int32
  query_params: Any
  key_params: Any  # moving average of query_params
  query_stats: Any  # running statistics of batch normalisation
  key_stats: Any
  opt_state: Any
  queue: KeyQueue


def initial_variables(seed: int, encoder: Encoder, *, side: int) -> dict[str, Any]:
  """ "params" and "batch_stats" of an encoder that has seen nothing."""
  init_rng = rng.stream(jax.random.key(seed), "init")
  return encoder.init(init_rng, jnp.zeros((1, side, side, 3)), train=False)


def init_state(
  seed: int,
  encoder: Encoder,
  optimizer: optax.GradientTransformation,
  *,
  side: int,
  queue_size: int,
) -> TrainState:
  """The state before the first step; key and query encoders are equal."""
  root = jax.random.key(seed)
  variables = initial_variables(seed, encoder, side=side)
  params, stats = variables["params"], variables["batch_stats"]
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    query_params=params,
    key_params=jax.tree.map(jnp.copy, params),
    query_stats=stats,
    key_stats=jax.tree.map(jnp.copy, stats),
    opt_state=optimizer.init(params),
    queue=key_queue.init(rng.stream(root, "queue"), queue_size, encoder.embedding_dim),
  )


@jax.jit
def is_finite(state: Any) -> jax.Array:
  """Whether there is neither NaN nor infinity in any array of a tree, [] bool."""
  leaves = (
    leaf for leaf in jax.tree.leaves(state) if jnp.isdtype(leaf.dtype, "real floating")
  )
  return functools.reduce(
    jnp.logical_and, (jnp.isfinite(leaf).all() for leaf in leaves), jnp.array(True)
  )


def ema(average: Any, new: Any, momentum: jax.Array) -> Any:
  """m·average + (1 − m)·new, leaf by leaf."""
  return jax.tree.map(lambda a, n: momentum * a + (1.0 - momentum) * n, average, new)
