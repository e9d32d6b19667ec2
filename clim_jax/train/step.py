"""The CLIM train step, written for one replica of the axis "data"."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from clim_jax import key_queue, losses, mixture, rng, sharding
from clim_jax.augment import Policy
from clim_jax.batch import Batch
from clim_jax.models.encoder import Encoder
from clim_jax.train.state import TrainState, ema
from clim_jax.train.views import Role, View, gather, make_roles

Metrics = dict[str, jax.Array]


class Recipe(NamedTuple):
  """What one step does; see configs/base.py for the values' meaning."""

  temperature: float
  policy: Policy
  mixture: str
  alpha: float
  mixed_weight: float
  symmetric: bool
  accumulate_steps: int


class _Anchors(NamedTuple):
  """What the loss of some query rows needs: a slice of a role, keys encoded."""

  queries: tuple[View, ...]
  positives: tuple[View, ...]
  mixing_rngs: tuple[jax.Array, ...]  # one [b] a side; () if nothing is mixed
  keys: jax.Array  # of the anchors, [b, D] float32
  positive_keys: jax.Array | None  # [b, D] float32
  has_positive: jax.Array  # [b] bool


def make_train_step(
  mesh: Mesh, train_step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
  """Maps a per-replica step over the mesh; the given state is consumed."""
  return sharding.spmd(
    train_step,
    mesh,
    in_specs=(sharding.REPLICATED, sharding.ROWS),
    out_specs=sharding.REPLICATED,
    donate_argnums=(0,),
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
    grads, query_stats, metrics, key_stats = lax.pmean(
      (grads, query_stats, metrics, _mean_trees(key_stats)), sharding.AXIS
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.query_params)
    new_keys = jnp.concatenate([gather(role_anchors.keys) for role_anchors in anchors])
    metrics["key_momentum"] = momentum
    metrics["gradient_norm"] = optax.global_norm(grads)
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
) -> tuple[_Anchors, Any]:
  """Keys of a role, gathered over replicas and put in the order of its queries."""

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
  positive_keys = None if role.positive_key is None else encode(role.positive_key)[0]
  anchors = _Anchors(
    role.queries, role.positives, (), keys, positive_keys, role.has_positive
  )
  return anchors, stats


def _with_mixing(anchors: _Anchors, step_rng: jax.Array, recipe: Recipe) -> _Anchors:
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
  roles: list[_Anchors],
  negatives: jax.Array,
  recipe: Recipe,
) -> tuple[Any, Any, Metrics]:
  """This replica's gradient, running statistics and metrics, means over parts."""

  def loss(params: Any, parts: list[_Anchors]) -> tuple[jax.Array, tuple[Any, Metrics]]:
    outs = [_role_loss(encoder, params, stats, p, negatives, recipe) for p in parts]
    total, new_stats, metrics = _mean_trees(outs)
    return total, (new_stats, metrics)

  params, stats = sharding.varying(params), sharding.varying(stats)
  differentiate = jax.grad(loss, has_aux=True)
  parts = recipe.accumulate_steps
  if parts == 1:
    grads, (new_stats, metrics) = differentiate(params, roles)
    return grads, new_stats, metrics

  def add(total: Any, part: list[_Anchors]) -> tuple[Any, None]:
    return jax.tree.map(jnp.add, total, differentiate(params, part)), None

  split = _split(roles, parts)
  first = jax.tree.map(lambda x: x[0], split)
  shapes = jax.eval_shape(differentiate, params, first)
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  total, _ = lax.scan(add, sharding.varying(zeros), split)
  grads, (new_stats, metrics) = jax.tree.map(lambda x: x / parts, total)
  return grads, new_stats, metrics


def _role_loss(
  encoder: Encoder,
  params: Any,
  stats: Any,
  anchors: _Anchors,
  negatives: jax.Array,
  recipe: Recipe,
) -> tuple[jax.Array, Any, Metrics]:
  """CLIM's loss of some query rows: mean over sides and rows."""

  def encode(images: jax.Array) -> tuple[jax.Array, Any]:
    encoded, updated = encoder.apply(
      {"params": params, "batch_stats": stats},
      images,
      train=True,
      mutable=["batch_stats"],
    )
    return encoded.embedding, updated["batch_stats"]

  by_side, new_stats, ratios = [], None, []
  for side, view in enumerate(anchors.queries):
    images = view.pixels(recipe.policy)
    query, updated = encode(images)
    # Running statistics serve evaluation, which sees whole images at the largest
    # side: smaller crops and mixtures are kept out of them.
    new_stats = updated if side == 0 else new_stats
    plain = losses.info_nce(
      query, anchors.keys, negatives, temperature=recipe.temperature
    )
    if side == 0:
      accuracy = _contrast_accuracy(query, anchors.keys, negatives)
    if anchors.positive_keys is None:
      by_side.append(plain)
      continue
    if anchors.mixing_rngs:
      partner = anchors.positives[side].pixels(recipe.policy)
      mixed_images, ratio = mixture.mix(
        recipe.mixture, anchors.mixing_rngs[side], images, partner, alpha=recipe.alpha
      )
      mixed_query, _ = encode(mixed_images)
    else:  # the positive's key as it is: nothing of the mixed term is the anchor's
      mixed_query, ratio = query, jnp.zeros_like(plain)
    ratios.append(ratio.mean())
    mixed = losses.mixed_info_nce(
      mixed_query,
      anchors.keys,
      anchors.positive_keys,
      ratio,
      negatives,
      temperature=recipe.temperature,
    )
    has_positive = anchors.has_positive
    weight = recipe.mixed_weight
    by_side.append(losses.combine(plain, mixed, has_positive, mixed_weight=weight))

  loss = jnp.mean(jnp.stack(by_side))
  metrics = {"loss": loss, "contrast_accuracy": accuracy}
  if ratios:
    metrics["mixture_ratio"] = jnp.mean(jnp.stack(ratios))
    metrics["positive_share"] = jnp.mean(anchors.has_positive.astype(jnp.float32))
  return loss, new_stats, metrics


def _contrast_accuracy(
  query: jax.Array, keys: jax.Array, negatives: jax.Array
) -> jax.Array:
  """Share of queries nearer to their own key than to every negative."""
  own = jnp.sum(query * keys, axis=-1)
  return jnp.mean(own > jnp.max(query @ negatives.T, axis=-1), dtype=jnp.float32)


def _split(tree: Any, parts: int) -> Any:
  """Leaves [b, ...] to [parts, b / parts, ...]."""
  return jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), tree)


def _mean_trees(trees: list[Any]) -> Any:
  """Mean of equal trees, leaf by leaf."""
  return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *trees)
