"""The step against the method written out, and against itself in other layouts."""

import functools

import jax
import numpy as np
import optax
import pytest
import tiny

from clim_jax import rng, sharding
from clim_jax.method import losses, mixture
from clim_jax.method.step import make_train_step

EXACTLY = {"rtol": 0, "atol": 0}


@functools.cache
def mapped_step(replica_step, devices: int = 1):
  """The mesh, and the compiled step of all tests that ask for the same."""
  mesh = sharding.make_mesh(jax.devices()[:devices])
  return mesh, make_train_step(mesh, replica_step)


def run(setup: tiny.Setup, batches, devices: int = 1):
  mesh, step = mapped_step(setup.replica_step, devices)
  state, metrics = setup.state, None
  for batch in batches:
    state, metrics = step(*tiny.put(mesh, state, batch))
  return state, metrics


def assert_trees_close(actual, expected, **tolerance):
  pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
  for a, e in pairs:
    np.testing.assert_allclose(a, e, **tolerance)


def pixels(images):
  return images.astype(np.float32) / 255


@functools.partial(jax.jit, static_argnums=0)
def encode(encoder, params, stats, images):
  """What the encoder makes of pixels, and its running statistics afterwards."""
  return encoder.apply(
    {"params": params, "batch_stats": stats},
    images,
    train=True,
    mutable=["batch_stats"],
  )


def embed(setup: tiny.Setup, params, stats, images):
  out, _ = encode(setup.encoder, params, stats, pixels(images))
  return out.embedding


def keys_in_anchor_order(setup, batch, images):
  # The key encoder is the query encoder at first, so its average is too.
  keys = embed(setup, setup.state.key_params, setup.state.key_stats, images)
  return keys[batch.key_row]


def losses_to(setup, params, batch, images, keys):
  query = embed(setup, params, setup.state.query_stats, images)
  return info_nce(query, keys, setup.state.queue.keys)


def info_nce(query, keys, negatives):
  logits = losses.negative_logits(query, negatives, temperature=tiny.TEMPERATURE)
  return losses.info_nce(query, keys, logits, temperature=tiny.TEMPERATURE)


def test_plain_step_is_moco_v2_written_out():
  setup = tiny.setup(policy=tiny.PLAIN_POLICY)
  batch = tiny.random_batch(positives=False)
  state, metrics = run(setup, [batch])

  keys = keys_in_anchor_order(setup, batch, batch.key)

  def loss(params):
    return losses_to(setup, params, batch, batch.query[0], keys).mean()

  value, grads = jax.jit(jax.value_and_grad(loss))(setup.state.query_params)
  optimizer = optax.chain(
    optax.add_decayed_weights(1e-4), optax.sgd(tiny.LEARNING_RATE, 0.9)
  )
  params = setup.state.query_params
  updates, _ = optimizer.update(grads, optimizer.init(params), params)
  # Tolerances: one program fuses what the other computes op by op.
  np.testing.assert_allclose(metrics["loss"], value, rtol=1e-5)
  np.testing.assert_allclose(metrics["plain_loss"], value, rtol=1e-5)
  query = embed(setup, params, setup.state.query_stats, batch.query[0])
  spread = np.sqrt(tiny.DIM) * np.sqrt(np.var(query, axis=0).mean())
  np.testing.assert_allclose(metrics["embedding_spread"], spread, rtol=1e-5)
  assert_trees_close(
    state.query_params, optax.apply_updates(params, updates), rtol=1e-4, atol=1e-6
  )
  np.testing.assert_allclose(state.queue.keys[: tiny.BATCH], keys, atol=1e-5)
  np.testing.assert_array_equal(
    state.queue.keys[tiny.BATCH :], setup.state.queue.keys[tiny.BATCH :]
  )
  assert int(state.queue.position) == tiny.BATCH
  assert int(state.step) == 1


def test_key_encoder_is_the_moving_average_before_the_step():
  setup = tiny.setup(policy=tiny.PLAIN_POLICY)
  batches = [tiny.random_batch(positives=False, seed=seed) for seed in range(2)]
  first, _ = run(setup, batches[:1])
  second, _ = run(setup, batches)
  expected = jax.tree.map(
    lambda key, query: tiny.MOMENTUM * key + (1 - tiny.MOMENTUM) * query,
    first.key_params,
    first.query_params,
  )
  assert_trees_close(second.key_params, expected, rtol=1e-6, atol=1e-7)
  # And the query encoder goes on from itself, by the momentum of its gradients.
  expected = jax.tree.map(
    lambda query, moved: query - tiny.LEARNING_RATE * moved,
    first.query_params,
    optax.tree.get(second.opt_state, "trace"),
  )
  assert_trees_close(second.query_params, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
  "kind", ["cutmix", pytest.param("mixup", marks=pytest.mark.slow), "direct"]
)
def test_without_positives_the_step_is_moco_v2_bit_for_bit(kind):
  setup = tiny.setup(mixture=kind)
  clim = tiny.random_batch()
  clim = clim._replace(has_positive=np.zeros(tiny.BATCH, bool))
  moco = clim._replace(positive_query=(), positive_key=None)
  clim_state, clim_metrics = run(setup, [clim, clim])
  moco_state, moco_metrics = run(setup, [moco, moco])
  # The direct arm's two terms share one query, so XLA fuses their gradients and
  # rounds the last bit elsewhere; nothing is shared where an image is mixed.
  tolerance = {"rtol": 1e-5, "atol": 1e-6} if kind == "direct" else EXACTLY
  assert_trees_close(clim_state, moco_state, **tolerance)
  np.testing.assert_allclose(clim_metrics["loss"], moco_metrics["loss"], **tolerance)


def test_mixed_step_is_clim_written_out():
  setup = tiny.setup(policy=tiny.PLAIN_POLICY)
  batch = tiny.random_batch()
  _, metrics = run(setup, [batch])

  params, stats = setup.state.query_params, setup.state.query_stats
  to_anchor, to_positive = (
    keys_in_anchor_order(setup, batch, images)
    for images in (batch.key, batch.positive_key)
  )
  plain = losses_to(setup, params, batch, batch.query[0], to_anchor)
  step_rng = jax.random.fold_in(rng.stream(jax.random.key(0), "step"), 0)
  rngs = rng.per_row(rng.stream(step_rng, "mixture0"), np.arange(tiny.BATCH))
  views = pixels(batch.query[0]), pixels(batch.positive_query[0])
  images, ratio = mixture.mix("cutmix", rngs, *views, alpha=2.0)
  query = encode(setup.encoder, params, stats, images)[0].embedding
  first, second = (
    info_nce(query, keys, setup.state.queue.keys) for keys in (to_anchor, to_positive)
  )
  mixed = ratio * first + (1 - ratio) * second
  expected = np.where(batch.has_positive, (plain + mixed) / 2, plain).mean()
  np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
  np.testing.assert_allclose(metrics["mixture_ratio"], ratio.mean(), rtol=1e-5)


def test_running_statistics_are_those_of_whole_crops_at_the_largest_side():
  setup = tiny.setup(policy=tiny.PLAIN_POLICY)
  batch = tiny.random_batch(sides=(8, 6))
  state, _ = run(setup, [batch])
  before = setup.state
  for params, stats, images, found in (
    (before.query_params, before.query_stats, batch.query[0], state.query_stats),
    (before.key_params, before.key_stats, batch.key, state.key_stats),
  ):
    _, expected = encode(setup.encoder, params, stats, pixels(images))
    assert_trees_close(found, expected["batch_stats"], rtol=1e-4, atol=1e-6)


def test_direct_positive_is_half_of_each_key_written_out():
  setup = tiny.setup(policy=tiny.PLAIN_POLICY, mixture="direct")
  batch = tiny.random_batch()
  _, metrics = run(setup, [batch])
  params = setup.state.query_params
  to_anchor, to_positive = (
    losses_to(
      setup, params, batch, batch.query[0], keys_in_anchor_order(setup, batch, images)
    )
    for images in (batch.key, batch.positive_key)
  )
  mixed = np.where(batch.has_positive, (to_anchor + to_positive) / 2, to_anchor)
  np.testing.assert_allclose(metrics["loss"], mixed.mean(), rtol=1e-5)
  np.testing.assert_allclose(metrics["plain_loss"], to_anchor.mean(), rtol=1e-5)


def test_mixed_only_weight_leaves_the_plain_term_out():
  setup = tiny.setup(policy=tiny.PLAIN_POLICY, mixture="direct", mixed_weight=1.0)
  batch = tiny.random_batch()._replace(has_positive=np.ones(tiny.BATCH, bool))
  _, metrics = run(setup, [batch])
  keys = keys_in_anchor_order(setup, batch, batch.positive_key)
  params = setup.state.query_params
  expected = losses_to(setup, params, batch, batch.query[0], keys).mean()
  np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)


def test_loss_is_the_mean_over_sides():
  setup = tiny.setup(policy=tiny.PLAIN_POLICY)
  batch = tiny.random_batch(positives=False, sides=(8, 6))
  _, metrics = run(setup, [batch])
  keys = keys_in_anchor_order(setup, batch, batch.key)
  params = setup.state.query_params
  means = [
    losses_to(setup, params, batch, images, keys).mean() for images in batch.query
  ]
  np.testing.assert_allclose(metrics["loss"], np.mean(means), rtol=1e-5)
  np.testing.assert_allclose(metrics["plain_loss"], np.mean(means), rtol=1e-5)


def test_symmetric_loss_is_the_mean_of_both_directions():
  setup = tiny.setup(policy=tiny.PLAIN_POLICY, symmetric=True)
  batch = tiny.random_batch(positives=False)
  symmetric = setup._replace(state=tiny.with_queue(setup.state, 2 * tiny.BATCH))
  state, metrics = run(symmetric, [batch])

  params, stats = symmetric.state.query_params, symmetric.state.query_stats
  forward = losses_to(
    symmetric, params, batch, batch.query[0],
    keys_in_anchor_order(symmetric, batch, batch.key),
  )  # fmt: skip
  other_keys = embed(symmetric, params, stats, batch.query[0])
  backward = losses_to(symmetric, params, batch, batch.key, other_keys[batch.query_row])
  expected = (forward.mean() + backward.mean()) / 2
  np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
  np.testing.assert_allclose(
    state.queue.keys[tiny.BATCH :], other_keys[batch.query_row], atol=1e-5
  )


@pytest.mark.parametrize(
  ("symmetric", "sides"),
  [
    (False, (8,)),
    pytest.param(True, (8, 6), marks=pytest.mark.slow),
  ],
)
def test_eight_devices_step_as_one_does(symmetric, sides):
  batches = [tiny.random_batch(seed=seed, sides=sides) for seed in range(2)]
  results = []
  for devices in (1, 8):
    setup = tiny.setup(devices=devices, symmetric=symmetric)
    if symmetric:
      setup = setup._replace(state=tiny.with_queue(setup.state, 2 * tiny.BATCH))
    results.append(run(setup, batches, devices))
  (one, one_metrics), (eight, eight_metrics) = results
  # Sums over rows are taken in another order: float32 rounding, amplified by
  # batch normalisation over groups of four rows.
  assert_trees_close(eight, one, rtol=2e-3, atol=2e-5)
  assert_trees_close(eight_metrics, one_metrics, rtol=1e-4)


def test_accumulated_parts_step_as_the_whole_batch_does():
  batches = [tiny.random_batch(seed=seed) for seed in range(2)]
  whole, whole_metrics = run(tiny.setup(), batches)
  parts, parts_metrics = run(tiny.setup(accumulate_steps=4), batches)
  assert_trees_close(parts, whole, rtol=2e-3, atol=2e-5)  # order of summation
  assert_trees_close(parts_metrics, whole_metrics, rtol=1e-4)


@pytest.mark.slow
def test_recomputed_activations_cost_convolutions_and_change_nothing():
  convolutions, outs = [], []
  for recompute in (False, True):
    setup = tiny.setup(recompute=recompute)
    mesh, step = mapped_step(setup.replica_step)
    arguments = tiny.put(mesh, setup.state, tiny.random_batch())
    # As traced: where memory is plenty, on a CPU, XLA merges the two computations.
    program = step.lower(*arguments)
    convolutions.append(program.as_text().count("stablehlo.convolution"))
    outs.append(step(*arguments))
  assert_trees_close(outs[1], outs[0], rtol=2e-3, atol=2e-5)
  assert convolutions[1] > 1.2 * convolutions[0]


@pytest.mark.slow
def test_mapped_step_equals_pmap_of_the_same_function():
  setup = tiny.setup(devices=8)
  batch = tiny.random_batch()
  mapped, mapped_metrics = run(setup, [batch], devices=8)
  rows = jax.tree.map(lambda x: x.reshape(8, -1, *x.shape[1:]), batch)
  pmapped, metrics = jax.pmap(
    setup.replica_step, axis_name=sharding.AXIS, in_axes=(None, 0), out_axes=None
  )(setup.state, rows)
  # The same operations in another program: fusions round differently.
  assert_trees_close(pmapped, mapped, rtol=1e-5, atol=1e-6)
  assert_trees_close(metrics, mapped_metrics, rtol=1e-5)


def test_step_compiles_once():
  setup = tiny.setup()
  mesh, step = mapped_step(setup.replica_step)
  before = step._cache_size()  # of other kinds of batches
  state, _ = tiny.put(mesh, setup.state, tiny.random_batch())
  for seed in range(4):
    batch = sharding.put_rows(mesh, tiny.random_batch(seed=seed))
    state, _ = step(state, batch)
  assert step._cache_size() <= before + 1
