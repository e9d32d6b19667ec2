"""CLIM's loss of some query rows, from their views to one number."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from clim_jax.augment.policy import Policy
from clim_jax.method import losses, mixture
from clim_jax.method.views import View
from clim_jax.models.encoder import Encoder

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
  recompute: bool


class Anchors(NamedTuple):
  """What the loss of some query rows needs: a slice of a role, keys encoded."""

  queries: tuple[View, ...]
  positives: tuple[View, ...]
  mixing_rngs: tuple[jax.Array, ...]  # one [b] a side; () if nothing is mixed
  keys: jax.Array  # of the anchors, [b, D] float32
  positive_keys: jax.Array | None  # [b, D] float32
  has_positive: jax.Array  # [b] bool


def clim_loss(
  encoder: Encoder,
  params: Any,
  stats: Any,
  anchors: Anchors,
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

  if recipe.recompute:  # the backward pass holds activations of one encoding alone
    encode = jax.checkpoint(encode)
  temperature = recipe.temperature
  by_side, by_side_plain, new_stats, ratios = [], [], None, []
  for side, view in enumerate(anchors.queries):
    images = view.pixels(recipe.policy)
    query, updated = encode(images)
    # Running statistics serve evaluation, which sees whole images at the largest
    # side: smaller crops and mixtures are kept out of them.
    new_stats = updated if side == 0 else new_stats
    negative = losses.negative_logits(query, negatives, temperature=temperature)
    plain = losses.info_nce(query, anchors.keys, negative, temperature=temperature)
    by_side_plain.append(plain)
    if side == 0:
      nearest = losses.is_nearest(
        query, anchors.keys, negative, temperature=temperature
      )
      mean_query = jnp.mean(lax.stop_gradient(query), axis=0)
    if anchors.positive_keys is None:
      by_side.append(plain)
      continue
    if anchors.mixing_rngs:
      partner = anchors.positives[side].pixels(recipe.policy)
      mixed_images, ratio = mixture.mix(
        recipe.mixture, anchors.mixing_rngs[side], images, partner, alpha=recipe.alpha
      )
      mixed_query, _ = encode(mixed_images)
      negative = losses.negative_logits(mixed_query, negatives, temperature=temperature)
    else:  # the positive's key as it is: nothing of the mixed term is the anchor's
      mixed_query, ratio = query, jnp.zeros_like(plain)
    ratios.append(ratio.mean())
    mixed = losses.mixed_info_nce(
      mixed_query,
      anchors.keys,
      anchors.positive_keys,
      ratio,
      negative,
      temperature=temperature,
    )
    has_positive = anchors.has_positive
    weight = recipe.mixed_weight
    by_side.append(losses.combine(plain, mixed, has_positive, mixed_weight=weight))

  loss = jnp.mean(jnp.stack(by_side))
  metrics = {
    "loss": loss,
    "plain_loss": jnp.mean(jnp.stack(by_side_plain)),
    "contrast_accuracy": jnp.mean(nearest, dtype=jnp.float32),
    "mean_query": mean_query,  # [D], linear in rows as the other metrics are
  }
  if ratios:
    metrics["mixture_ratio"] = jnp.mean(jnp.stack(ratios))
    metrics["positive_share"] = jnp.mean(anchors.has_positive.astype(jnp.float32))
  return loss, new_stats, metrics
