import numpy as np
import pytest

from clim_jax.selection.search.tile_pairs import Tiling, all_pairs, schedule


def _meetings(plan, tiling):
  """Unordered pairs of global tiles, as the devices meet them."""
  met = []
  for device in range(tiling.devices):
    for turn in range(tiling.devices // 2 + 1):
      start, stop = plan.bounds[device, turn : turn + 2]
      visitor = (device - turn) % tiling.devices
      for row, column in plan.pairs[device, start:stop]:
        assert 0 <= row < tiling.count
        assert 0 <= column < tiling.count
        tiles = device * tiling.count + row, visitor * tiling.count + column
        met.append(tuple(sorted(map(int, tiles))))
  return met


@pytest.mark.parametrize("devices", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("tiles", [1, 2, 3])
def test_every_pair_of_tiles_meets_once(devices, tiles):
  tiling = Tiling.of(devices * tiles * 32, devices, at_most=32)
  met = _meetings(all_pairs(tiling), tiling)
  total = devices * tiles
  assert sorted(met) == [(i, j) for i in range(total) for j in range(i + 1, total)]


def test_no_device_has_much_more_to_do_than_another():
  tiling = Tiling.of(8 * 320, 8, at_most=32)
  work = all_pairs(tiling).bounds[:, -1]
  assert work.max() <= 1.05 * work.mean()


@pytest.mark.parametrize("devices", [1, 2, 3, 4, 8])
def test_only_the_asked_pairs_meet(devices):
  tiling = Tiling.of(devices * 96, devices, at_most=32)
  rng = np.random.default_rng(0)
  asked = np.sort(rng.integers(0, devices * 3, (20, 2)), axis=1)
  asked = np.unique(asked[asked[:, 0] != asked[:, 1]], axis=0)
  met = _meetings(schedule(asked, tiling), tiling)
  assert sorted(met) == [tuple(pair) for pair in asked.tolist()]


@pytest.mark.parametrize(
  ("rows", "devices", "at_most", "count", "size"),
  [(50_000, 1, 2048, 25, 2016), (203, 1, 32, 7, 32), (8, 8, 2048, 1, 32)],
)
def test_tiles_are_equal_whole_words_and_cover_the_rows(
  rows, devices, at_most, count, size
):
  tiling = Tiling.of(rows, devices, at_most=at_most)
  assert tiling == (devices, rows // devices, count, size)


def test_a_row_lies_in_the_tile_of_its_device():
  tiling = Tiling.of(2 * 70, 2, at_most=32)  # tiles of 32, the last with 6 rows
  expected = [0] * 32 + [1] * 32 + [2] * 6 + [3] * 32 + [4] * 32 + [5] * 6
  np.testing.assert_array_equal(tiling.tile_of(np.arange(140)), expected)
