"""Fine-tuning: two rates, SwAV's schedule, batch normalisation over the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tiny_subject import DIM, ENCODER, SIDE, mesh, mirrored, random_batches, subject

from clim_jax.probes import subjects
from clim_jax.probes.finetune import finetune

BATCHES = random_batches(5)


def tune(start, *, devices=1, rate=0.05, head_rate=0.5, dim=DIM, batches=BATCHES):
  return finetune(
    mesh(devices),
    start,
    batches,
    learning_rate=rate,
    head_learning_rate=head_rate,
    dim=dim,
    num_classes=3,
    total_steps=len(batches),
  )


def reference(start, rate, head_rate):
  """The same by optax, which keeps a rate and a momentum for each part."""
  head = jnp.zeros((DIM + 1, 3))
  weights = (start.variables["params"], head)

  def schedule(peak):
    return lambda step: peak * jnp.where(step < 3, 1.0, jnp.where(step < 4, 0.2, 0.04))

  optimizer = optax.multi_transform(
    {
      "trunk": optax.sgd(schedule(rate), 0.9),
      "head": optax.sgd(schedule(head_rate), 0.9),
    },
    (jax.tree.map(lambda _: "trunk", weights[0]), "head"),
  )
  stats, state = start.variables["batch_stats"], optimizer.init(weights)

  def loss(weights, stats, images, labels):
    variables = {"params": weights[0], "batch_stats": stats}
    features, moved = subjects.apply(ENCODER, variables, images, train=True)
    scores = features @ weights[1][:-1] + weights[1][-1:]
    picked = jnp.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    return (jax.nn.logsumexp(scores, axis=1) - picked).mean(), moved

  gradient = jax.jit(jax.grad(loss, has_aux=True))
  for batch in BATCHES:
    gradients, stats = gradient(weights, stats, mirrored(batch), batch.labels)
    updates, state = optimizer.update(gradients, state, weights)
    weights = optax.apply_updates(weights, updates)
  return {"params": weights[0], "batch_stats": stats}, weights[1]


def close(first, second, rtol=2e-3, atol=2e-5):
  for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def test_network_and_head_follow_their_own_rates():
  start = subject()
  tuned, head = tune(start)
  variables, expected = reference(start, 0.05, 0.5)
  close((tuned.variables, head), (variables, expected))
  moved = tuned.variables["params"]["backbone"]["conv1"]["kernel"]
  before = start.variables["params"]["backbone"]["conv1"]["kernel"]
  assert np.abs(np.asarray(moved - before)).max() > 1e-3


def test_the_number_of_devices_changes_rounding_alone():
  one, eight = (tune(subject(), devices=devices) for devices in (1, 8))
  close((one[0].variables, one[1]), (eight[0].variables, eight[1]))


def test_a_frozen_backbone_keeps_its_parameters():
  start = subject()
  tuned, head = tune(start, rate=0.0)
  close(tuned.variables["params"], start.variables["params"], rtol=0, atol=0)
  assert np.abs(head).max() > 0


def test_raw_pixels_are_fine_tuned_as_softmax_regression():
  raw = subjects.raw_pixels(32)
  tuned, head = tune(raw, head_rate=0.05, dim=SIDE * SIDE * 3)
  expected, velocity = np.zeros((SIDE * SIDE * 3 + 1, 3)), 0.0
  for number, batch in enumerate(BATCHES):
    rows = np.hstack([mirrored(batch).reshape(16, -1) / 255, np.ones((16, 1))])
    scores = np.exp(rows @ expected)
    errors = scores / scores.sum(axis=1, keepdims=True) - np.eye(3)[batch.labels]
    velocity = 0.9 * velocity + rows.T @ errors / 16
    factor = 1.0 if number < 3 else 0.2 if number < 4 else 0.04
    expected = expected - factor * 0.05 * velocity
  np.testing.assert_allclose(head, expected, rtol=2e-3, atol=1e-5)
  assert tuned.variables == raw.variables
