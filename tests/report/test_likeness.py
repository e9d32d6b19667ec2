"""What is alike, against plain sorting and scikit-learn."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from clim_jax import sharding
from clim_jax.report import likeness


def unit(rows):
  return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def some(images=90, dim=6, seed=0):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 3, images)
  centers = 2 * rng.normal(size=(3, dim))
  features = unit(centers[labels] + rng.normal(size=(images, dim)))
  return features, labels, np.arange(images) < 70


def test_neighbours_are_the_nearest_other_training_images():
  features, _, is_train = some()
  found = likeness.compare(features, is_train)
  for row in range(len(features)):
    cosines = features @ features[row]
    others = [i for i in np.argsort(-cosines) if is_train[i] and i != row]
    expected = others[: found.neighbours.shape[1]]
    np.testing.assert_array_equal(found.neighbours[row], expected)
    np.testing.assert_allclose(found.similarities[row], cosines[expected], atol=1e-6)


def test_the_map_is_that_of_principal_components():
  features, _, is_train = some()
  found = likeness.compare(features, is_train)
  pca = PCA(2).fit(features[is_train])
  np.testing.assert_allclose(found.explained, pca.explained_variance_ratio_, rtol=1e-4)
  expected = pca.transform(features)
  for axis in range(2):
    assert abs(np.corrcoef(found.places[:, axis], expected[:, axis])[0, 1]) > 0.9999
  assert found.places.min() == 0
  assert found.places.max() == 1


def test_t_sne_keeps_neighbours_together():
  features, labels, _ = some()
  places = likeness.tsne(features)
  assert places.min() == 0
  assert places.max() == 1
  distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
  np.fill_diagonal(distances, np.inf)
  assert (labels[distances.argmin(axis=1)] == labels).mean() > 0.7


def test_images_without_a_label_do_not_vote():
  features, labels, is_train = some()
  features[5] = features[80]  # the nearest of the 80th, by far
  hidden = np.where(np.arange(len(labels)) == 5, -1, labels)
  found = likeness.compare(features, is_train)
  assert found.neighbours[80, 0] == 5
  assert (likeness.votes(found, labels) == labels).mean() > 0.7
  assert (likeness.votes(found, hidden) >= 0).all()
  assert (likeness.votes(found, np.full(len(labels), -1)) == -1).all()


def test_copies_are_the_first_pair_and_told_once():
  features, _, is_train = some()
  features[10] = features[40]
  pairs = likeness.pairs(likeness.compare(features, is_train))
  assert set(pairs[0][:2]) == {10, 40}
  assert len({frozenset(pair[:2]) for pair in pairs}) == len(pairs)
  assert [pair[2] for pair in pairs] == sorted((p[2] for p in pairs), reverse=True)


def test_confusion_is_that_of_a_logistic_regression():
  features, labels, is_train = some()
  labels = np.where(np.arange(len(labels)) == 3, -1, labels * 10)  # no codes
  classes, counts = likeness.confusion(
    sharding.make_mesh(), features, labels, is_train, regulariser=1e-2
  )
  np.testing.assert_array_equal(classes, [0, 10, 20])
  fitted = is_train & (labels >= 0)
  # Their penalty is of the sum of the losses, ours of the mean.
  theirs = LogisticRegression(C=1 / (1e-2 * fitted.sum()), tol=1e-8, max_iter=1000)
  guess = theirs.fit(features[fitted], labels[fitted]).predict(features[~is_train])
  expected = np.zeros((3, 3), int)
  np.add.at(expected, (labels[~is_train] // 10, guess // 10), 1)
  np.testing.assert_array_equal(counts, expected)
