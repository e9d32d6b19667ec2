"""The columns that embedding-atlas shows: places, neighbours, thumbnails."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from clim_jax import sharding
from clim_jax.data.arrays import array_source
from clim_jax.data.crops import CenterCrop
from clim_jax.evaluate.embedding_atlas import check_count, image_columns, map_columns
from clim_jax.experiment.error import ConfigError


@pytest.fixture(scope="module")
def features():
  """Along an arc in a plane of five dimensions, of many lengths."""
  angles = np.random.default_rng(0).uniform(0.1, 1.4, 30)
  plane = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 2)))[0]
  lengths = np.arange(1, 31)[:, None]
  rows = lengths * np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane.T
  return rows.astype(np.float32)


@pytest.fixture(scope="module")
def columns(features):
  return map_columns(features)


def test_neighbours_are_the_rows_of_greatest_cosine_without_oneself(features, columns):
  unit = features / np.linalg.norm(features, axis=1, keepdims=True)
  cosines = unit.astype(np.float64) @ unit.T.astype(np.float64)
  np.fill_diagonal(cosines, -2)
  expected = 1 - np.sort(cosines, axis=1)[:, :-21:-1]
  rows = columns["neighbors"].to_pylist()
  ids = np.array([row["ids"] for row in rows])
  assert all(len(set(row)) == 20 for row in ids.tolist())
  # Of float32 numbers near 1; so may two that are as near change places.
  of_ids = 1 - np.take_along_axis(cosines, ids, axis=1)
  for distances in (of_ids, [row["distances"] for row in rows]):
    np.testing.assert_allclose(distances, expected, atol=1e-6)


def test_the_map_keeps_the_distances_of_what_lies_in_a_plane(features, columns):
  unit = features / np.linalg.norm(features, axis=1, keepdims=True)
  places = np.stack([columns["x"], columns["y"]], axis=1)
  apart = [np.linalg.norm(a[:, None] - a[None], axis=-1) for a in (unit, places)]
  np.testing.assert_allclose(*apart, atol=1e-5)
  assert np.ptp(columns["x"]) > np.ptp(columns["y"])


def test_thumbnails_are_those_of_their_rows_and_small():
  levels = np.arange(19, dtype=np.uint8) * 13
  pixels = np.broadcast_to(levels[:, None, None, None], (19, 80, 80, 3)).copy()
  shown = np.arange(0, 19, 2)
  files = [f"a/{image}.png" for image in shown[:-1]] + ["b.png"]
  source = array_source(pixels, None, "the array")
  mesh = sharding.make_mesh(jax.devices()[:2])
  found = image_columns(mesh, source, shown, files, CenterCrop(72, 1.0), 4)
  assert found["folder"].to_pylist() == ["a"] * 9 + [""]
  rows = found["image"].to_pylist()
  assert [row["path"] for row in rows] == files
  pictures = [np.asarray(Image.open(io.BytesIO(row["bytes"]))) for row in rows]
  assert {picture.shape for picture in pictures} == {(64, 64, 3)}
  seen = [picture.mean() for picture in pictures]
  np.testing.assert_allclose(seen, levels[shown], atol=2)  # of the JPEG


@pytest.mark.parametrize("images", [2, 100_001])
def test_sets_that_cannot_be_compared_are_refused(images):
  with pytest.raises(ConfigError, match=f"there are {images:,}; leave it out, or"):
    check_count(images)
  check_count(3)
