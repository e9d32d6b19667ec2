"""A picture of what a selection kept, for where a run is shown."""

import numpy as np
from PIL import Image

from clim_jax import sharding
from clim_jax.data.batches import evaluation_batches
from clim_jax.experiment.experiment import Experiment, evaluation_crop
from clim_jax.selection.record import Record
from clim_jax.selection.search.best import NO_NEIGHBOUR

NAME = "selection/gallery"
_ROWS, _NEIGHBOURS = 8, 8
_MOST_PIXELS = 64  # of a tile's side
_FRAME = 2  # pixels
_KEPT, _REJECTED, _PAPER = (46, 160, 67), (208, 215, 222), (255, 255, 255)


def picture(experiment: Experiment, record: Record) -> np.ndarray | None:
  """Some images, a row each: itself, then its nearest neighbours, framed green if kept.

  They are the same images at every selection of a run. Every process must call it.

  Returns:
    [H, W, 3] uint8; None where the rule looks for no neighbours.
  """
  columns = min(_NEIGHBOURS, record.neighbours.shape[1])
  if not columns:
    return None
  drawn = np.random.default_rng(0).permutation(len(record.anchors))[:_ROWS]
  neighbours = record.neighbours[drawn, :columns]
  ids = np.concatenate([record.anchors[drawn, None], neighbours], axis=1)
  tiles = _tiles(experiment, np.where(ids == NO_NEIGHBOUR, ids[:, :1], ids).ravel())
  side = tiles.shape[1]
  canvas = np.full((*ids.shape, side + 2 * _FRAME, side + 2 * _FRAME, 3), _PAPER)
  kept = record.kept[drawn, :columns, None, None, None]
  canvas[:, 1:] = np.where(kept, _KEPT, _REJECTED)
  inner = slice(_FRAME, _FRAME + side)
  canvas[:, :, inner, inner] = tiles.reshape(*ids.shape, side, side, 3)
  canvas[ids == NO_NEIGHBOUR] = _PAPER
  rows, across, tall, wide, _ = canvas.shape
  joined = canvas.swapaxes(1, 2).reshape(rows * tall, across * wide, 3)
  return joined.astype(np.uint8)


def _tiles(experiment: Experiment, ids: np.ndarray) -> np.ndarray:
  """What the encoder sees of images, at most so large, [N, S, S, 3] uint8."""
  mesh, crop = experiment.mesh, evaluation_crop(experiment.config)
  size = -(-len(ids) // mesh.devices.size) * mesh.devices.size
  turn = np.resize(ids, (1, size))
  (batch,) = evaluation_batches(mesh, experiment.train, turn, crop)
  seen = sharding.to_host(batch)[: len(ids)]
  side = min(crop.side, _MOST_PIXELS)
  if side == crop.side:
    return seen
  small = (Image.fromarray(pixels).resize((side, side)) for pixels in seen)
  return np.stack([np.asarray(pixels) for pixels in small])
