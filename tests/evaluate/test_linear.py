import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from clim_jax.evaluate.heads import (
  fit_learning_rates,
  fit_regularisers,
  head_accuracies,
)
from clim_jax.evaluate.linear import linear_probe, split_rows

REGULARISERS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
SETTINGS = {
  "num_classes": 10,
  "solver": "lbfgs",
  "regularisers": REGULARISERS,
  "learning_rates": (0.1, 1.0, 10.0),
  "epochs": 10,
  "batch_size": 64,
  "max_iterations": 500,
  "validation_fraction": 0.2,
  "seed": 0,
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


def _probe(sets, **changes):
  return linear_probe(*sets, **(SETTINGS | changes))


def _objective(weights, bias, features, labels, regulariser):
  logits = features.astype(np.float64) @ weights + bias
  logits -= logits.max(axis=1, keepdims=True)
  chosen = logits[np.arange(len(labels)), labels]
  losses = np.log(np.exp(logits).sum(axis=1)) - chosen
  return losses.mean() + regulariser / 2 * (weights**2).sum()


def test_lbfgs_agrees_with_scikit_learn(digits):
  train, train_labels, test, _ = digits
  # The rows and settings of the probe below, to share its compiled program.
  rows = split_rows(train_labels, validation_fraction=0.2, seed=0)[0]
  train, train_labels = train[rows], train_labels[rows]
  heads = fit_regularisers(
    train,
    train_labels,
    np.float32(REGULARISERS),
    num_classes=10,
    max_iterations=500,
  )
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


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_test_labels_play_no_part_in_the_choice(digits, solver):
  train, train_labels, test, test_labels = digits
  honest = _probe(digits, solver=solver)
  shuffled = np.random.default_rng(1).permutation(test_labels)
  blind = _probe((train, train_labels, test, shuffled), solver=solver)
  assert blind.chosen == honest.chosen
  assert blind.validation_accuracy == honest.validation_accuracy
  assert blind.accuracy < 0.3 < 0.9 < honest.accuracy


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_two_calls_give_the_same_figures(digits, solver):
  assert _probe(digits, solver=solver) == _probe(digits, solver=solver)


def test_lbfgs_probe_is_scikit_learn_with_the_same_split(digits):
  train, train_labels, test, test_labels = digits
  result = _probe(digits)
  fitted, judged = split_rows(train_labels, validation_fraction=0.2, seed=0)

  def oracle(rows, regulariser):
    return LogisticRegression(
      C=1 / (len(rows) * regulariser), solver="newton-cg", tol=1e-6
    ).fit(train[rows].astype(np.float64), train_labels[rows])

  assert set(result.validation_accuracy) == set(REGULARISERS)
  for regulariser in (1e-4, 1e-2, 1.0):
    expected = oracle(fitted, regulariser).score(train[judged], train_labels[judged])
    # One of the 288 held-out rows may lie on the boundary.
    assert result.validation_accuracy[regulariser] == pytest.approx(expected, abs=0.004)
  best = max(result.validation_accuracy.values())
  assert result.validation_accuracy[result.chosen] == best
  refit = oracle(np.arange(len(train)), result.chosen).score(test, test_labels)
  assert result.accuracy == pytest.approx(refit, abs=0.003)


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_separable_classes_are_learnt_and_ties_take_the_simplest(separable, solver):
  result = _probe(
    separable,
    solver=solver,
    num_classes=3,
    regularisers=(1e-3, 1e-2),
    learning_rates=(10.0, 1.0),
    batch_size=16,
  )
  assert result.accuracy == 1.0
  assert set(result.validation_accuracy.values()) == {1.0}
  assert result.chosen == {"lbfgs": 1e-2, "sgd": 1.0}[solver]


def test_sgd_follows_momentum_and_decay_by_hand():
  # One row of class 0 of two, feature 1: the batch is the row, epochs are steps, and
  # by symmetry each head is (z, -z) in both weight and bias.
  train = (np.float32([[1]] * 2), np.int32([0, 0]))
  test = (np.float32([[1]]), np.int32([0]))
  settings = {"num_classes": 2, "epochs": 10, "batch_size": 8}
  heads = fit_learning_rates(
    *train, np.float32([0.1, 1.0]), rng=jax.random.key(0), **settings
  )
  for head, rate in zip(np.asarray(heads), (0.1, 1.0), strict=True):
    z = velocity = 0.0
    for step in range(10):
      # Logits are +-2z, weight and bias together, hence a margin of 4z.
      velocity = 0.9 * velocity - 1 / (1 + np.exp(4 * z))
      z -= rate * (1.0 if step < 6 else 0.1 if step < 8 else 0.01) * velocity
    np.testing.assert_allclose(head, [[z, -z], [z, -z]], rtol=1e-5)
  assert head_accuracies(heads, *test) == [1.0, 1.0]


def test_diverged_head_is_never_chosen(separable):
  rates = (1.0, 1e38)
  result = _probe(
    separable, solver="sgd", num_classes=3, learning_rates=rates, batch_size=16
  )
  assert result.chosen == 1.0
  heads = np.full((1, 7, 3), np.nan, np.float32)
  assert head_accuracies(heads, separable[2], separable[3] * 0) == [0.0]


def test_split_is_stratified_disjoint_and_seeded():
  labels = np.repeat(np.int32([0, 1, 2]), [50, 30, 20])
  fitted, judged = split_rows(labels, validation_fraction=0.2, seed=3)
  assert sorted(np.concatenate([fitted, judged])) == list(range(100))
  assert np.bincount(labels[judged]).tolist() == [10, 6, 4]
  again = split_rows(labels, validation_fraction=0.2, seed=3)[1]
  other = split_rows(labels, validation_fraction=0.2, seed=4)[1]
  assert again.tolist() == judged.tolist() != other.tolist()


@pytest.mark.parametrize(
  "labels",
  [[0] * 9 + [1], [0] * 10, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]],
  ids=["a class of one row", "one class", "more classes than held-out rows"],
)
def test_small_classes_are_split_all_the_same(labels):
  fitted, judged = split_rows(np.int32(labels), validation_fraction=0.2, seed=0)
  assert (len(fitted), len(judged)) == (8, 2)
  assert sorted(np.concatenate([fitted, judged])) == list(range(10))


def test_the_chosen_setting_is_refit_on_every_training_row():
  # The only row of class 1 is held out, so only a refit can have learnt the class.
  labels = np.int32([0] * 9 + [1])
  seed = next(
    seed
    for seed in range(100)
    if 9 in split_rows(labels, validation_fraction=0.2, seed=seed)[1]
  )
  features = np.eye(2, dtype=np.float32)[labels]
  test = (np.eye(2, dtype=np.float32), np.int32([0, 1]))
  result = _probe(
    (features, labels, *test), solver="sgd", num_classes=2, epochs=100, seed=seed
  )
  assert result.validation_accuracy[result.chosen] == 0.5
  assert result.accuracy == 1.0


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"solver": "newton"}, "solver is 'newton'"),
    ({"regularisers": ()}, "'lbfgs' has 0 settings"),
    ({"num_classes": 9}, r"span 0\.\.9, outside \[0, 9\)"),
  ],
)
def test_wrong_settings_are_errors(digits, changes, message):
  with pytest.raises(ValueError, match=message):
    _probe(digits, **changes)
