"""The CLIM train step, written for one replica of the axis "data"."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from clim_jax import rng, sharding
from clim_jax.method import key_queue, mixture
from clim_jax.method.batch import Batch
from clim_jax.method.objective import Anchors, Metrics, Recipe, clim_loss
from clim_jax.method.state import TrainState, ema
from clim_jax.method.views import Role, View, gather, make_roles
from clim_jax.models.encoder import Encoder


def make_train_step(
  mesh: Mesh,
  train_step: Callable[[TrainState, Any], tuple[TrainState, Metrics]],
  batch_spec: Any = sharding.ROWS,
) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
  """Maps a per-replica step over the mesh; the given state is consumed.

  Args:
    mesh: the devices.
    train_step: (state, what a replica has of a batch) → (state, metrics).
    batch_spec: how the batch lies on the devices.
  """
  return sharding.spmd(
    train_step,
    mesh,
    in_specs=(sharding.REPLICATED, batch_spec),
    out_specs=sharding.REPLICATED,
    donate_argnums=(0,),
    convolves=True,
  )


def make_replica_step(
  encoder: Encoder,
  optimizer: optax.GradientTransformation,
  momentum_schedule: optax.Schedule,
  recipe: Recipe,
  seed: int,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
  """The step of one replica: (state, its rows of the batch) → (state, metrics).

  A batch without positives makes the step MoCo v2; nothing else distinguishes them.

  Args:
    encoder: its `groups` are those of one part of one replica's rows.
    optimizer: of the query encoder.
    momentum_schedule: of the key encoder, by step.
    recipe: the method's switches.
    seed: root of the step's random streams.
  """

  def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    step_rng = rng.stream(jax.random.key(seed), "step")
    step_rng = jax.random.fold_in(step_rng, state.step)
    roles = make_roles(batch, step_rng, symmetric=recipe.symmetric)

    momentum = momentum_schedule(state.step)
    key_params = ema(state.key_params, state.query_params, momentum)
    key_variables = {"params": key_params, "batch_stats": state.key_stats}
    anchors, key_stats = [], []
    for role in roles:
      encoded, stats = _encode_keys(encoder, key_variables, role, recipe)
      anchors.append(_with_mixing(encoded, step_rng, recipe))
      key_stats.append(stats)

    grads, query_stats, metrics = _gradients(
      encoder, state.query_params, state.query_stats, anchors, state.queue.keys, recipe
    )
    grads, query_stats, metrics, key_stats = sharding.mean(
      (grads, query_stats, metrics, _mean_trees(key_stats))
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.query_params)
    new_keys = jnp.concatenate([gather(role_anchors.keys) for role_anchors in anchors])
    metrics["embedding_spread"] = _spread(metrics.pop("mean_query"))
    metrics["key_momentum"] = momentum
    metrics["gradient_norm"] = optax.tree.norm(grads)
    new_state = TrainState(
      step=state.step + 1,
      query_params=optax.apply_updates(state.query_params, updates),
      key_params=key_params,
      query_stats=query_stats,
      key_stats=key_stats,
      opt_state=opt_state,
      queue=key_queue.enqueue(state.queue, new_keys),
    )
    return new_state, metrics

  return train_step


def _encode_keys(
  encoder: Encoder, variables: Any, role: Role, recipe: Recipe
) -> tuple[Anchors, Any]:
  """A role's keys, gathered and put in the order of its queries; running statistics."""

  def encode(view: View) -> tuple[jax.Array, Any]:
    def part(view: View) -> tuple[jax.Array, Any]:
      encoded, updated = encoder.apply(
        variables, view.pixels(recipe.policy), train=True, mutable=["batch_stats"]
      )
      return encoded.embedding, updated["batch_stats"]

    keys, stats = lax.map(part, _split(view, recipe.accumulate_steps))
    keys = gather(keys.reshape(-1, keys.shape[-1]))[role.key_row]
    return lax.stop_gradient(keys), jax.tree.map(lambda s: s.mean(axis=0), stats)

  keys, stats = encode(role.key)
  # Positives leave no trace in the running statistics: a batch in which no anchor
  # has one then gives the very state that plain MoCo v2 gives.
  positive_keys = None
  if role.positive_key is not None:
    positive_keys, _ = encode(role.positive_key)
  anchors = Anchors(
    role.queries, role.positives, (), keys, positive_keys, role.has_positive
  )
  return anchors, stats


def _with_mixing(anchors: Anchors, step_rng: jax.Array, recipe: Recipe) -> Anchors:
  """Adds the draws of the mixture, where images are mixed."""
  if anchors.positive_keys is None or recipe.mixture not in mixture.MIXTURES:
    return anchors
  rows = sharding.row_offset(len(anchors.keys)) + jnp.arange(len(anchors.keys))
  names = [f"mixture{side}" for side in range(len(anchors.queries))]
  return anchors._replace(
    mixing_rngs=tuple(rng.per_row(rng.stream(step_rng, name), rows) for name in names)
  )


def _gradients(
  encoder: Encoder,
  params: Any,
  stats: Any,
  roles: list[Anchors],
  negatives: jax.Array,
  recipe: Recipe,
) -> tuple[Any, Any, Metrics]:
  """This replica's gradient, running statistics and metrics, means over parts."""

  def loss(params: Any, parts: list[Anchors]) -> tuple[jax.Array, tuple[Any, Metrics]]:
    outs = [clim_loss(encoder, params, stats, p, negatives, recipe) for p in parts]
    total, new_stats, metrics = _mean_trees(outs)
    return total, (new_stats, metrics)

  params, stats = sharding.varying(params), sharding.varying(stats)
  differentiate = jax.grad(loss, has_aux=True)
  parts = recipe.accumulate_steps
  if parts == 1:
    grads, (new_stats, metrics) = differentiate(params, roles)
    return grads, new_stats, metrics

  def add(total: Any, part: list[Anchors]) -> tuple[Any, None]:
    return jax.tree.map(jnp.add, total, differentiate(params, part)), None

  split = _split(roles, parts)
  first = jax.tree.map(lambda x: x[0], split)
  shapes = jax.eval_shape(differentiate, params, first)
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  total, _ = lax.scan(add, sharding.varying(zeros), split)
  grads, (new_stats, metrics) = jax.tree.map(lambda x: x / parts, total)
  return grads, new_stats, metrics


def _spread(mean: jax.Array) -> jax.Array:
  """Deviation of unit vectors from their mean, [D]: 1 all around, 0 collapsed.

  Each coordinate of vectors that lie all around deviates by 1/√D, all D together by 1.
  """
  return jnp.sqrt(jnp.maximum(1.0 - jnp.sum(mean**2), 0.0))


def _split(tree: Any, parts: int) -> Any:
  """Leaves [b, ...] to [parts, b / parts, ...]."""
  return jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), tree)


def _mean_trees(trees: list[Any]) -> Any:
  """Mean of equal trees, leaf by leaf."""
  return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *trees)
