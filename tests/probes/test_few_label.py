import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from clim_jax.probes.few_label import few_label_probe
from clim_jax.probes.label_subsets import class_balanced_subset

SETTINGS = {
  "num_classes": 10,
  "labels_per_class": 4,
  "seeds": (0, 1, 2),
  "regulariser": 1e-3,
  "max_iterations": 200,
}


@pytest.fixture(scope="module")
def digits():
  features, labels = load_digits(return_X_y=True)
  features, labels = normalize(features).astype(np.float32), labels.astype(np.int32)
  return features[:1000], labels[:1000], features[1000:], labels[1000:]


def test_probe_agrees_with_scikit_learn_on_every_draw(digits):
  train, train_labels, test, test_labels = digits
  result = few_label_probe(*digits, **SETTINGS)
  for seed, accuracy in zip((0, 1, 2), result, strict=True):
    ids = class_balanced_subset(
      train_labels, num_classes=10, labels_per_class=4, seed=seed
    )
    oracle = LogisticRegression(C=1 / (40 * 1e-3), tol=1e-7, max_iter=5000)
    oracle.fit(train[ids].astype(np.float64), train_labels[ids])
    # One of the 797 test rows may lie on the boundary.
    assert accuracy == pytest.approx(oracle.score(test, test_labels), abs=0.0013)
  assert len(set(result)) > 1


def test_two_calls_give_the_same_figures(digits):
  first = few_label_probe(*digits, **SETTINGS)
  assert first == few_label_probe(*digits, **SETTINGS)


def test_a_class_too_small_is_an_error(digits):
  with pytest.raises(ValueError, match="class 0 has 99 rows"):
    few_label_probe(*digits, **(SETTINGS | {"labels_per_class": 200}))
