"""What is judged: layers, raw pixels, and an untrained network that is well scaled."""

import jax
import numpy as np
import pytest
from tiny_subject import DIM, ENCODER, mesh, random_batches, same_trees, subject

from clim_jax.models.encoder import LAYERS
from clim_jax.probes import subjects

IMAGES = random_batches(1)[0].images


def test_raw_pixels_are_the_pixels():
  raw = subjects.raw_pixels(32)
  features, _ = subjects.apply(raw.encoder, raw.variables, IMAGES)
  np.testing.assert_allclose(features, IMAGES.reshape(16, -1) / 255, rtol=1e-6)


def test_raw_pixels_are_those_of_small_images_alone():
  raw = subjects.raw_pixels(32)
  assert (raw.side(16), raw.side(224)) == (16, 32)
  assert subject().side(224) == 224


@pytest.mark.parametrize(
  ("layer", "width"), list(zip(LAYERS, (DIM, 12, 6), strict=True))
)
def test_layers_have_their_own_width_and_the_embedding_unit_norm(layer, width):
  own = subject()
  rows, _ = subjects.apply(ENCODER, own.variables, IMAGES, layer=layer)
  assert rows.shape == (16, width)
  norms = np.linalg.norm(rows, axis=1)
  assert np.allclose(norms, 1.0, rtol=1e-5) == (layer == "embedding")


@pytest.mark.parametrize("devices", [1, 8])
def test_an_untrained_network_has_the_statistics_of_its_batch(devices):
  own = subject()
  untrained = subjects.untrained(mesh(devices), ENCODER, own.variables, iter([IMAGES]))
  assert same_trees(untrained.variables["params"], own.variables["params"])
  # With those statistics evaluation mode gives what training mode gives.
  expected, _ = subjects.apply(ENCODER, own.variables, IMAGES, train=True)
  found, _ = subjects.apply(ENCODER, untrained.variables, IMAGES)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
  plain, _ = subjects.apply(ENCODER, own.variables, IMAGES)
  assert np.abs(np.asarray(plain - expected)).max() > 0.1


def test_only_training_mode_changes_the_statistics():
  own = subject()
  _, kept = subjects.apply(ENCODER, own.variables, IMAGES)
  _, moved = subjects.apply(ENCODER, own.variables, IMAGES, train=True)
  assert same_trees(kept, own.variables["batch_stats"])
  assert not same_trees(moved, own.variables["batch_stats"])
  assert jax.tree.structure(kept) == jax.tree.structure(moved)
