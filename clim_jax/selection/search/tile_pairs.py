"""Which tiles of the bank are compared, where, and at which turn of the ring."""

from typing import NamedTuple

import numpy as np

WORD = 32  # tiles are a multiple of it: hits are packed into words of bits


class Tiling(NamedTuple):
  """How each device's rows are cut into equal tiles, the last filled up."""

  devices: int
  rows: int  # of a device
  count: int  # tiles of a device
  size: int  # rows of a tile

  @classmethod
  def of(cls, total_rows: int, devices: int, *, at_most: int) -> "Tiling":
    """Tiles of at most `at_most` rows, or of 32, with as little filling as may be."""
    rows = total_rows // devices
    count = -(-rows // max(at_most, WORD))
    return cls(devices, rows, count, -(-rows // (count * WORD)) * WORD)

  def tile_of(self, rows: np.ndarray) -> np.ndarray:
    """Global tile of global rows."""
    device, local = np.divmod(rows, self.rows)
    return device * self.count + local // self.size


class TilePairs(NamedTuple):
  """Tiles to compare, by device and in the order of its turns."""

  # Tile of its own, tile of the visiting shard, [devices, P, 2] int32; zeros follow.
  pairs: np.ndarray
  # Turn t takes the pairs bounds[t] … bounds[t + 1], [devices, turns + 1] int32.
  bounds: np.ndarray


def all_pairs(tiling: Tiling) -> TilePairs:
  """Every unordered pair of different tiles once: what an exact search compares."""
  tiles = tiling.devices * tiling.count
  return schedule(np.stack(np.triu_indices(tiles, k=1), axis=1), tiling)


def schedule(pairs: np.ndarray, tiling: Tiling) -> TilePairs:
  """Puts unordered pairs of different global tiles, [P, 2], where and when they meet.

  Shards go around the ring by one device a turn, half-way: at turn t a device has
  the shard of the t-th device before it. Of two devices that hold each other's
  shard, which happens half-way around an even ring, each takes every other pair.
  """
  devices, count = tiling.devices, tiling.count
  first, second = pairs[:, 0], pairs[:, 1]
  turn = (first // count - second // count) % devices
  swap = (2 * turn > devices) | ((2 * turn == devices) & ((first + second) % 2 == 1))
  mine, visitor = np.where(swap, second, first), np.where(swap, first, second)
  device = mine // count
  turn = (device - visitor // count) % devices
  turns = devices // 2 + 1

  order = np.lexsort((visitor, mine, turn, device))
  local = np.stack([mine % count, visitor % count], axis=1)[order].astype(np.int32)
  met = np.zeros((devices, turns), np.int64)
  np.add.at(met, (device, turn), 1)
  bounds = np.concatenate([np.zeros((devices, 1), int), met.cumsum(axis=1)], axis=1)
  # Few lengths are in use, or every refresh of a pruned search would compile anew.
  length = 1 << int(bounds[:, -1].max()).bit_length()
  table = np.zeros((devices, length, 2), np.int32)
  begin = np.cumsum(bounds[:, -1]) - bounds[:, -1]
  place = np.arange(len(order)) - begin[device[order]]
  table[device[order], place] = local
  return TilePairs(table, bounds.astype(np.int32))
