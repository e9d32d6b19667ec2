"""MoCo's probe: each head is the SGD of PyTorch, the network is left alone."""

import numpy as np
from tiny_subject import (
  DIM,
  ENCODER,
  mesh,
  mirrored,
  random_batches,
  same_trees,
  subject,
)

from clim_jax.probes.linear_sgd import train_heads
from clim_jax.probes.subjects import apply

SETTINGS = [(0.1, 0.0), (0.5, 0.0), (0.1, 0.5)]
BATCHES = random_batches(10)


def fit(*, devices=1, settings=SETTINGS, subject=None, batches=BATCHES):
  return train_heads(
    mesh(devices),
    subject or SUBJECT,
    batches,
    settings=settings,
    layer="features",
    dim=DIM,
    num_classes=3,
    total_steps=len(batches),
  )


SUBJECT = subject()


def reference(rate, decay):
  """Softmax regression by SGD in NumPy, as torch.optim.SGD defines its momentum."""
  head = np.zeros((DIM + 1, 3))
  velocity = np.zeros_like(head)
  for number, batch in enumerate(BATCHES):
    features, _ = apply(ENCODER, SUBJECT.variables, mirrored(batch))
    rows = np.hstack([np.asarray(features, np.float64), np.ones((16, 1))])
    scores = np.exp(rows @ head)
    errors = scores / scores.sum(axis=1, keepdims=True) - np.eye(3)[batch.labels]
    gradient = rows.T @ errors / 16 + decay * head
    velocity = 0.9 * velocity + gradient
    factor = 1.0 if number < 6 else 0.1 if number < 8 else 0.01
    head = head - factor * rate * velocity
  return head


def test_every_head_follows_its_rate_and_decay():
  heads = fit()
  for head, setting in zip(heads, SETTINGS, strict=True):
    np.testing.assert_allclose(head, reference(*setting), rtol=1e-3, atol=1e-4)
  assert np.abs(heads[0] - heads[2]).max() > 0.01


def test_heads_do_not_depend_on_their_company():
  alone = fit(settings=SETTINGS[1:2])
  np.testing.assert_allclose(alone[0], fit()[1], rtol=1e-4, atol=1e-6)


def test_the_number_of_devices_changes_rounding_alone():
  np.testing.assert_allclose(fit(devices=8), fit(), rtol=1e-3, atol=1e-5)


def test_the_network_stays_as_it_is():
  own = subject()
  fit(subject=own)
  assert same_trees(own.variables, subject().variables)
