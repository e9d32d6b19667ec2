import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from clim_jax import sharding
from clim_jax.data.split import split_rows
from clim_jax.probes.heads import SharedRows, fit_regularisers, head_accuracies
from clim_jax.probes.linear import linear_probe

# Two devices, by which 1437 rows do not divide.
MESH = sharding.make_mesh(jax.devices()[:2])
REGULARISERS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
SETTINGS = {
  "num_classes": 10,
  "regularisers": REGULARISERS,
  "max_iterations": 500,
}


@pytest.fixture(scope="module")
def digits():
  features, labels = load_digits(return_X_y=True)
  order = np.random.default_rng(0).permutation(len(labels))
  features = normalize(features)[order].astype(np.float32)
  labels = labels[order].astype(np.int32)
  return features[:1437], labels[:1437], features[1437:], labels[1437:]


@pytest.fixture(scope="module")
def separable():
  """Three classes on three axes, 40 training and 20 test rows each."""
  rng = np.random.default_rng(0)
  labels = np.repeat(np.arange(3, dtype=np.int32), 60)
  features = np.eye(3, 6)[labels] + 0.05 * rng.normal(size=(180, 6))
  features = normalize(features).astype(np.float32)
  test = np.arange(180) % 3 == 0
  return features[~test], labels[~test], features[test], labels[test]


def _probe(sets, *, seed=0, **changes):
  """Accuracies by regulariser, of the rows that judge and of the test rows."""
  settings = SETTINGS | changes
  split = split_rows(sets[1], held_out=0.2, seed=seed)
  accuracies = linear_probe(MESH, *sets, split=split, **settings)
  return [dict(zip(settings["regularisers"], a, strict=True)) for a in accuracies]


def _objective(weights, bias, features, labels, regulariser):
  logits = features.astype(np.float64) @ weights + bias
  logits -= logits.max(axis=1, keepdims=True)
  chosen = logits[np.arange(len(labels)), labels]
  losses = np.log(np.exp(logits).sum(axis=1)) - chosen
  return losses.mean() + regulariser / 2 * (weights**2).sum()


def test_lbfgs_agrees_with_scikit_learn(digits):
  train, train_labels, test, _ = digits
  # The rows and settings of the probe below, to share its compiled program.
  rows = split_rows(train_labels, held_out=0.2, seed=0)[0]
  heads = fit_regularisers(
    MESH,
    SharedRows.put(MESH, train, train_labels),
    rows,
    np.float32(REGULARISERS),
    num_classes=10,
    max_iterations=500,
  )
  train, train_labels = train[rows], train_labels[rows]
  for head, regulariser in zip(np.float64(heads), REGULARISERS, strict=True):
    oracle = LogisticRegression(
      C=1 / (len(train) * regulariser), solver="newton-cg", tol=1e-6
    ).fit(train.astype(np.float64), train_labels)
    value = _objective(head[:-1], head[-1], train, train_labels, regulariser)
    expected = _objective(
      oracle.coef_.T, oracle.intercept_, train, train_labels, regulariser
    )
    # A float32 gradient of 1e-6 is near enough the optimum for this.
    assert value == pytest.approx(expected, rel=1e-4)
    predicted = (test @ head[:-1] + head[-1]).argmax(axis=1)
    assert np.mean(predicted == oracle.predict(test)) >= 0.995


def test_test_labels_play_no_part_in_the_judgement(digits):
  train, train_labels, test, test_labels = digits
  validation, honest = _probe(digits)
  shuffled = np.random.default_rng(1).permutation(test_labels)
  again, blind = _probe((train, train_labels, test, shuffled))
  assert again == validation
  assert blind[1e-4] < 0.3 < 0.9 < honest[1e-4]


def test_two_calls_give_the_same_figures(digits):
  assert _probe(digits) == _probe(digits)


def test_lbfgs_probe_is_scikit_learn_with_the_same_split(digits):
  train, train_labels, test, test_labels = digits
  validation, test_accuracy = _probe(digits)
  fitted, judged = split_rows(train_labels, held_out=0.2, seed=0)

  def oracle(rows, regulariser):
    return LogisticRegression(
      C=1 / (len(rows) * regulariser), solver="newton-cg", tol=1e-6
    ).fit(train[rows].astype(np.float64), train_labels[rows])

  for regulariser in (1e-4, 1e-2, 1.0):
    expected = oracle(fitted, regulariser).score(train[judged], train_labels[judged])
    # One of the 288 held-out rows may lie on the boundary.
    assert validation[regulariser] == pytest.approx(expected, abs=0.004)
  for regulariser in (1e-4, 1e-5):
    refit = oracle(np.arange(len(train)), regulariser).score(test, test_labels)
    assert test_accuracy[regulariser] == pytest.approx(refit, abs=0.003)


def test_separable_classes_are_learnt(separable):
  for found in _probe(separable, num_classes=3, regularisers=(1e-3, 1e-2)):
    assert set(found.values()) == {1.0}


def test_a_diverged_head_is_right_nowhere(separable):
  heads = np.full((1, 7, 3), np.nan, np.float32)
  assert head_accuracies(heads, separable[2], separable[3] * 0) == [0.0]


def test_settings_are_refit_on_every_training_row():
  # The only row of class 1 is held out, so only a refit can have learnt the class.
  labels = np.int32([0] * 9 + [1])
  seed = next(
    seed for seed in range(100) if 9 in split_rows(labels, held_out=0.2, seed=seed)[1]
  )
  features = np.eye(2, dtype=np.float32)[labels]
  test = (np.eye(2, dtype=np.float32), np.int32([0, 1]))
  validation, tested = _probe((features, labels, *test), num_classes=2, seed=seed)
  assert validation[1e-6] == 0.5
  assert tested[1e-6] == 1.0
