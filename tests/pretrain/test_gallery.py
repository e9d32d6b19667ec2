"""A picture of a selection shows its images at their places, framed as they fared."""

import copy
import json
import types

import jax
import numpy as np
import pytest
from small_run import run

from clim_jax import sharding
from clim_jax.data.arrays import array_source
from clim_jax.experiment import configuration
from clim_jax.pretrain import gallery
from clim_jax.pretrain.destinations.sender import KINDS
from clim_jax.selection.record import Record
from clim_jax.selection.search.best import NO_NEIGHBOUR

IMAGES, FRAME = 10, 2
GREEN = (46, 160, 67)


def experiment(side):
  """Of images of one level each: ten times their number."""
  levels = 10 * np.arange(IMAGES, dtype=np.uint8)[:, None, None, None]
  pixels = np.broadcast_to(levels, (IMAGES, 8, 8, 3)).copy()
  config = configuration.load("base")
  config.views.evaluation_side = side
  return types.SimpleNamespace(
    mesh=sharding.make_mesh(jax.devices()[:4]),
    train=array_source(pixels, None, "the array"),
    config=config,
  )


def record(neighbours, kept):
  anchors, nothing = np.arange(len(neighbours)), np.zeros(0, np.int32)
  return Record(np.int64(1), anchors, neighbours, kept, nothing, nothing)


@pytest.fixture(scope="module")
def found():
  """Of ten images six neighbours, of which those of an even number are kept."""
  rng = np.random.default_rng(0)
  neighbours = np.stack([rng.permutation(IMAGES)[:6] for _ in range(IMAGES)])
  neighbours[:, 5] = NO_NEIGHBOUR
  return record(neighbours.astype(np.int32), neighbours % 2 == 0)


@pytest.mark.parametrize("side", [8, 96])
def test_a_row_is_an_image_and_its_neighbours_green_where_they_are_kept(found, side):
  picture = gallery.picture(experiment(side), found)
  tile = min(side, 64) + 2 * FRAME
  assert picture.shape == (8 * tile, 7 * tile, 3)
  tiles = picture.reshape(8, tile, 7, tile, 3).swapaxes(1, 2)
  inside, corners = tiles[:, :, tile // 2, tile // 2], tiles[:, :, 0, 0]
  assert (inside == inside[..., :1])[:, :6].all()
  shown = inside[:, :6, 0] // 10
  anchors = shown[:, 0]
  assert len(set(anchors.tolist())) == 8
  np.testing.assert_array_equal(shown[:, 1:], found.neighbours[anchors, :5])
  is_green = (corners == GREEN).all(axis=-1)
  np.testing.assert_array_equal(is_green[:, 1:6], found.kept[anchors, :5])
  assert (corners[:, 0] == 255).all()
  assert (tiles[:, 6] == 255).all()  # a search that found too few


def test_a_rule_without_neighbours_has_no_picture():
  empty = np.zeros((IMAGES, 0), np.int32)
  assert gallery.picture(experiment(8), record(empty, empty.astype(bool))) is None


@pytest.mark.slow
def test_a_run_shows_one_with_every_selection_and_trains_the_same(
  center_wise, tmp_path, monkeypatch
):
  shown = []

  class StandIn:
    run_id = ""

    def __init__(self, session):
      pass

    def write(self, step, scalars):
      pass

    def show(self, step, name, picture):
      shown.append((step, name, picture.shape))

    def close(self, *, finished):
      pass

  monkeypatch.setitem(KINDS, "tensorboard", StandIn)
  config = copy.deepcopy(center_wise[0])
  config.log.destinations = ("tensorboard",)
  records = run(config, tmp_path)
  tile = 8 + 2 * FRAME
  shape = (8 * tile, 7 * tile, 3)  # six neighbours are looked for
  assert shown == [(2, "selection/gallery", shape), (6, "selection/gallery", shape)]
  losses = [
    json.loads(line)["loss"] for line in (center_wise[1] / "metrics.jsonl").open()
  ]
  assert [record["loss"] for record in records] == losses
