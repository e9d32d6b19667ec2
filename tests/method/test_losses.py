import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clim_jax.method import losses

BATCH, DIM, QUEUE, TEMPERATURE = 6, 8, 21, 0.2
# Logits reach 1/τ = 5; float32 keeps a sum of them to a few millionths.
ROUNDING = 5e-6


def _unit(seed, rows):
  x = np.random.default_rng(seed).normal(size=(rows, DIM))
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


QUERY, KEY, OTHER_KEY = _unit(0, BATCH), _unit(1, BATCH), _unit(2, BATCH)
NEGATIVES = _unit(3, QUEUE)
RATIO = np.random.default_rng(4).random(BATCH).astype(np.float32)


def _formula(query, key, negatives, temperature):
  """The paper's fraction, literally, in float64."""
  query, key, negatives = (x.astype(np.float64) for x in (query, key, negatives))
  out = []
  for q, k in zip(query, key, strict=True):
    positive = np.exp(q @ k / temperature)
    out.append(
      -np.log(positive / (positive + np.exp(negatives @ q / temperature).sum()))
    )
  return np.array(out)


def _info_nce(query, key, negatives, *, temperature=TEMPERATURE):
  negative = losses.negative_logits(query, negatives, temperature=temperature)
  return losses.info_nce(query, key, negative, temperature=temperature)


def _mixed(ratio, *, mixed=QUERY, key=KEY, other=OTHER_KEY, negatives=NEGATIVES):
  negative = losses.negative_logits(mixed, negatives, temperature=TEMPERATURE)
  return losses.mixed_info_nce(
    mixed, key, other, ratio, negative, temperature=TEMPERATURE
  )


def _by_one_softmax(query, key, negatives):
  """The same loss with the key as one of the classes, as MoCo's code has it."""
  keys = jnp.concatenate(
    [jnp.sum(query * key, axis=1, keepdims=True), query @ negatives.T], 1
  )
  return -jax.nn.log_softmax(keys / TEMPERATURE)[:, 0]


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_info_nce_is_the_formula(temperature):
  loss = _info_nce(QUERY, KEY, NEGATIVES, temperature=temperature)
  expected = _formula(QUERY, KEY, NEGATIVES, temperature)
  assert loss.shape == (BATCH,)
  np.testing.assert_allclose(loss, expected, rtol=ROUNDING, atol=ROUNDING)


def test_info_nce_of_a_case_done_by_hand():
  # q·k = 1, q·n = 0 and −1, τ = ½: −log(e² / (e² + e⁰ + e⁻²)).
  query = np.float32([[1, 0]])
  negatives = np.float32([[0, 1], [-1, 0]])
  loss = _info_nce(query, query, negatives, temperature=0.5)
  np.testing.assert_allclose(loss, [np.log(1 + np.exp(-2) + np.exp(-4))], rtol=1e-6)


def test_equal_similarities_give_the_log_of_their_number():
  same = np.tile(QUERY[:1], (QUEUE, 1))
  loss = _info_nce(QUERY[:1], QUERY[:1], same)
  np.testing.assert_allclose(loss, np.log(QUEUE + 1), rtol=1e-6)


def test_large_logits_stay_finite():
  # Logits of ±1e4; exp(89) is infinite in float32.
  def loss(query):
    return _info_nce(query, -query, QUERY, temperature=1e-4).sum()

  value, gradient = jax.value_and_grad(loss)(jnp.asarray(QUERY))
  np.testing.assert_allclose(value, 2e4 * BATCH, rtol=1e-5)
  assert np.isfinite(gradient).all()


def test_the_gradient_is_that_of_a_softmax():
  # d/dq = (Σ_j p_j n_j − (1 − p_k) k) / τ with the softmax p over all logits.
  gradient = jax.grad(lambda q: _info_nce(q, KEY, NEGATIVES).sum())(jnp.asarray(QUERY))
  for q, k, g in zip(QUERY.astype(float), KEY.astype(float), gradient, strict=True):
    keys = np.concatenate([k[None], NEGATIVES])
    weights = np.exp(keys @ q / TEMPERATURE)
    expected = (weights @ keys / weights.sum() - k) / TEMPERATURE
    np.testing.assert_allclose(g, expected, atol=2e-5)  # 1/τ times the above


def test_similarities_are_not_rounded_by_accelerators():
  # The default precision shows on no CPU, only in the program.
  text = str(jax.make_jaxpr(_info_nce)(QUERY, KEY, NEGATIVES))
  assert text.count("dot_general") == text.count("Precision.HIGHEST") // 2 == 1


def test_the_mixed_loss_is_the_weighted_sum():
  expected = RATIO * _formula(QUERY, KEY, NEGATIVES, TEMPERATURE) + (
    1 - RATIO
  ) * _formula(QUERY, OTHER_KEY, NEGATIVES, TEMPERATURE)
  np.testing.assert_allclose(_mixed(RATIO), expected, rtol=ROUNDING)


@pytest.mark.parametrize(("ratio", "key"), [(1, KEY), (0, OTHER_KEY)])
def test_an_unmixed_image_has_exactly_the_plain_loss(ratio, key):
  mixed = _mixed(np.full(BATCH, ratio, np.float32))
  plain = _info_nce(QUERY, key, NEGATIVES)
  np.testing.assert_array_equal(mixed, plain)


def test_gradients_are_those_of_a_softmax_that_has_the_key_as_a_class():
  def by_one_softmax(query, key, other, negatives):
    to_anchor = _by_one_softmax(query, key, negatives)
    to_positive = _by_one_softmax(query, other, negatives)
    return (to_anchor + RATIO * to_anchor + (1 - RATIO) * to_positive).sum()

  def ours(query, key, other, negatives):
    mixed = _mixed(RATIO, mixed=query, key=key, other=other, negatives=negatives)
    return (_info_nce(query, key, negatives) + mixed).sum()

  arrays = [jnp.asarray(x) for x in (QUERY, KEY, OTHER_KEY, NEGATIVES)]
  found, expected = (
    jax.value_and_grad(f, argnums=(0, 1, 2, 3))(*arrays) for f in (ours, by_one_softmax)
  )
  for one, two in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
    np.testing.assert_allclose(one, two, rtol=1e-6, atol=ROUNDING)


def test_a_small_loss_keeps_its_digits():
  # q·k = 1, q·n = −1, τ = 0.1: log(1 + e⁻²⁰) = 2.06e-9, where 1 + x is 1 in float32.
  query = np.float32([[1, 0]])
  loss = _info_nce(query, query, -query, temperature=0.1)
  np.testing.assert_allclose(loss, np.exp(-20), rtol=1e-5)


def test_the_mixed_loss_needs_no_more_memory_than_the_plain_one():
  rows, negatives = 64, np.tile(NEGATIVES, (100, 1))
  query, key, other = (np.tile(x, (20, 1))[:rows] for x in (QUERY, KEY, OTHER_KEY))
  ratio = np.full(rows, 0.3, np.float32)

  def arrays_of_logits(loss):
    program = jax.jit(jax.grad(lambda query: loss(query).sum())).lower(query).compile()
    return program.memory_analysis().temp_size_in_bytes / (4 * rows * len(negatives))

  plain = arrays_of_logits(lambda query: _info_nce(query, key, negatives))
  mixed = arrays_of_logits(
    lambda query: _mixed(ratio, mixed=query, key=key, other=other, negatives=negatives)
  )
  assert 1 <= mixed < plain + 0.1 < 2.2


def test_a_query_is_nearest_to_its_key_if_no_negative_is_as_near():
  keys = np.where(np.arange(BATCH)[:, None] % 2, QUERY, -QUERY)
  negative = losses.negative_logits(QUERY, NEGATIVES, temperature=TEMPERATURE)
  found = losses.is_nearest(QUERY, keys, negative, temperature=TEMPERATURE)
  expected = (QUERY * keys).sum(axis=1) > (QUERY @ NEGATIVES.T).max(axis=1)
  assert 0 < expected.sum() < BATCH
  np.testing.assert_array_equal(found, expected)


def test_without_a_positive_the_loss_is_the_plain_one_bit_for_bit():
  # Not even a mixed loss that is no number comes through.
  plain = RATIO * 7
  mixed = np.full(BATCH, np.nan, np.float32)
  out = losses.combine(plain, mixed, np.zeros(BATCH, bool), mixed_weight=0.3)
  np.testing.assert_array_equal(out, plain)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_only_anchors_with_a_positive_mix(weight):
  plain, mixed = np.float32([1, 2, 3]), np.float32([10, 20, 30])
  out = losses.combine(plain, mixed, np.array([True, False, True]), mixed_weight=weight)
  expected = [1 + 9 * weight, 2, 3 + 27 * weight]
  np.testing.assert_array_equal(out, expected)


def test_gradients_of_the_whole_loss_are_finite_and_skip_missing_positives():
  has_positive = np.arange(BATCH) % 2 == 0

  def total(query, mixed):
    plain = _info_nce(query, KEY, NEGATIVES)
    both = losses.combine(
      plain, _mixed(RATIO, mixed=mixed), has_positive, mixed_weight=0.5
    )
    return both.sum()

  to_query, to_mixed = jax.grad(total, argnums=(0, 1))(jnp.asarray(QUERY), QUERY)
  assert np.isfinite(to_query).all()
  assert (np.abs(to_query).sum(axis=1) > 0).all()
  np.testing.assert_array_equal(np.abs(to_mixed).sum(axis=1) > 0, has_positive)
