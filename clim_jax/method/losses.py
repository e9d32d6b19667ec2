"""InfoNCE and its mixed form: the equations of CLIM."""

import jax
import jax.numpy as jnp
from jax import lax


def negative_logits(
  query: jax.Array, negatives: jax.Array, *, temperature: float
) -> jax.Array:
  """q·n_j/τ of every query and negative: the one large array of a loss.

  Args:
    query: unit-norm, [B, D] float32.
    negatives: unit-norm, shared by all queries, [Q, D] float32.
    temperature: τ.

  Returns:
    [B, Q] float32.
  """
  # The default precision of accelerators would round q·n to 8 or 10 bits.
  return jnp.dot(query, negatives.T, precision=lax.Precision.HIGHEST) / temperature


def info_nce(
  query: jax.Array, key: jax.Array, negative: jax.Array, *, temperature: float
) -> jax.Array:
  """−log exp(q·k/τ) / (exp(q·k/τ) + Σ_j exp(q·n_j/τ)) for each example.

  Args:
    query: unit-norm, [B, D] float32.
    key: unit-norm, row i is the positive of query i, [B, D] float32.
    negative: the queries' `negative_logits`, [B, Q] float32.
    temperature: τ.

  Returns:
    Loss of each example, [B] float32.

  Reference: He et al. 2020 (arXiv 1911.05722), equation 1.
  """
  positive = _positive_logits(query, key, temperature)
  return _contrast(positive, jax.nn.logsumexp(negative, axis=-1))


def mixed_info_nce(
  mixed: jax.Array,
  anchor_key: jax.Array,
  positive_key: jax.Array,
  ratio: jax.Array,
  negative: jax.Array,
  *,
  temperature: float,
) -> jax.Array:
  """λ·InfoNCE(q_mix, k_x) + (1 − λ)·InfoNCE(q_mix, k_x') for each example.

  Args:
    mixed: queries of the mixed images, unit-norm, [B, D] float32.
    anchor_key: keys of the anchors, [B, D] float32.
    positive_key: keys of the anchors' positives, [B, D] float32.
    ratio: λ, the anchor's share of each mixed image, [B] float32.
    negative: the mixed queries' `negative_logits`, [B, Q] float32.
    temperature: τ.

  Returns:
    Loss of each example, [B] float32.

  Reference: Li et al. 2021 (arXiv 2011.02697).
  """
  log_sum = jax.nn.logsumexp(negative, axis=-1)  # of both terms
  to_anchor = _contrast(_positive_logits(mixed, anchor_key, temperature), log_sum)
  to_positive = _contrast(_positive_logits(mixed, positive_key, temperature), log_sum)
  return ratio * to_anchor + (1.0 - ratio) * to_positive


def is_nearest(
  query: jax.Array, key: jax.Array, negative: jax.Array, *, temperature: float
) -> jax.Array:
  """Whether each query is nearer to its key than to every negative, [B] bool.

  Args: as `info_nce`.
  """
  return _positive_logits(query, key, temperature) > jnp.max(negative, axis=-1)


def _positive_logits(query: jax.Array, key: jax.Array, temperature: float) -> jax.Array:
  return jnp.sum(query * key, axis=-1) / temperature


def _contrast(positive: jax.Array, log_sum: jax.Array) -> jax.Array:
  """−log e^p / (e^p + e^s): small losses keep their digits."""
  return jax.nn.softplus(log_sum - positive)


def combine(
  plain: jax.Array, mixed: jax.Array, has_positive: jax.Array, *, mixed_weight: float
) -> jax.Array:
  """(1 − w)·plain + w·mixed where there is a positive, plain where there is none.

  Args:
    plain: InfoNCE(q_x, k_x), [B] float32.
    mixed: the mixed loss; ignored where there is no positive, [B] float32.
    has_positive: whether selection left a positive, [B] bool.
    mixed_weight: w; ½ is CLIM, 1 is the mixed-only arm.

  Returns:
    Loss of each example, [B] float32.
  """
  both = (1.0 - mixed_weight) * plain + mixed_weight * mixed
  return jnp.where(has_positive, both, plain)
