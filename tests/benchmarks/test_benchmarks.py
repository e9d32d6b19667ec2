import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import (
  input,
  jpegs,
  measurement,
  our_step,
  peer_process,
  peers,
  selection,
  train_step,
)
from clim_jax.configs import smoke

KEYS = {
  "case",
  "n",
  "dim",
  "threads",
  "repeats",
  "ours_seconds",
  "peer",
  "peer_seconds",
  "ratio",
  "recall",
  "positives_precision",
  "neighbour_recall",
  "inertia_ratio",
  "beyond_bank_bytes",
  "peak_rss_bytes",
}
CASES = ["knn_50000x128_20", "selection_50000x128", "pruned_200000x128"]


@pytest.fixture(scope="module")
def lines():
  """What the script prints of small versions of `CASES`."""
  env = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
  command = [sys.executable, pathlib.Path(selection.__file__), "--case", *CASES]
  command += ["--scale", "0.02", "--repeats", "1", "--json"]
  done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
  return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_every_case_prints_a_line_with_all_keys(lines):
  assert [line["case"] for line in lines] == CASES
  assert all(line.keys() == KEYS for line in lines)


@pytest.mark.slow
def test_exact_search_and_its_positives_are_those_of_the_peer(lines):
  for line in lines[:2]:
    assert line["recall"] == pytest.approx(1, abs=1e-3)
  assert lines[1]["positives_precision"] == pytest.approx(1, abs=1e-3)


def _result(**figures):
  line = dict.fromkeys(KEYS, None) | {"case": "kmeans_50000x128_500"} | figures
  return selection.Result(**line)


def test_a_bar_is_met_at_its_limit_and_missed_beyond_it():
  assert selection.missed(_result(ratio=1.0, inertia_ratio=1.01)) == []
  assert selection.missed(_result(ratio=0.99, inertia_ratio=1.0)) == ["ratio 0.99 < 1"]
  both = selection.missed(_result(ratio=0.5, inertia_ratio=1.2))
  assert both == ["ratio 0.5 < 1", "inertia_ratio 1.2 > 1.01"]


@pytest.mark.parametrize("name", selection.CASES)
def test_bars_ask_only_for_figures_that_a_result_has(name):
  fields = {field.name for field in dataclasses.fields(selection.Result)}
  bar = selection.CASES[name].bar
  assert bar.at_least.keys() | bar.at_most.keys() <= fields == KEYS


def test_a_row_is_dropped_from_its_own_neighbours_even_behind_copies():
  ids = np.array([[0, 1, 2], [2, 0, 1], [0, 1, 3]])
  np.testing.assert_array_equal(peers.without_self(ids), [[1, 2], [2, 0], [0, 1]])


def test_shares_count_row_by_row_and_not_what_is_nobody():
  one = np.array([[1, 2], [3, -1]])
  other = np.array([[2, 3], [-1, 1]])
  assert peers.share(one, other) == pytest.approx(1 / 3)
  assert peers.share(one, one) == 1


@pytest.mark.parametrize("components", [0, 3])
def test_data_are_unit_rows_that_jax_takes_without_a_copy(components):
  case = measurement.Case(None, 5000, 7, None, components=components)
  rows = measurement.unit_rows(case)
  np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
  assert rows.dtype == np.float32
  assert rows.ctypes.data % 64 == 0
  np.testing.assert_array_equal(rows, measurement.unit_rows(case))


@pytest.mark.parametrize("script", [train_step, input])
def test_without_the_peers_a_benchmark_says_how_to_make_them(
  script, monkeypatch, tmp_path
):
  monkeypatch.setattr(peer_process, "PYTHON", tmp_path / "python")
  monkeypatch.setattr(sys, "argv", ["benchmark"])
  with pytest.raises(SystemExit, match=r"setup_peers\.sh"):
    script.main()


def test_generated_jpegs_have_the_size_and_the_spectrum_of_photographs(tmp_path):
  jpegs.write_jpegs(tmp_path / "train", 2)
  for path in sorted((tmp_path / "train").iterdir()):
    assert 80_000 < path.stat().st_size < 160_000
    pixels = np.asarray(Image.open(path).convert("L"), float)
    assert max(pixels.shape) == 500
    power = np.abs(np.fft.rfft2(pixels)) ** 2
    bands = [power[2 * k, k : 2 * k].mean() for k in (8, 16, 32, 64)]
    slope = np.polyfit(np.log([8, 16, 32, 64]), np.log(bands), 1)[0]
    assert slope == pytest.approx(-2, abs=0.4)  # amplitude as 1 / frequency


def test_the_input_benchmark_counts_anchors_and_our_photometric_work(monkeypatch):
  case = input.Case((8,), False, 4, 2, 1.0, arrays=True)

  class Peer:
    def __init__(self, script, *arguments):
      assert script == "torch_input.py"

    def ask(self):
      return {"seconds": 4.0}

    def close(self):
      pass

  monkeypatch.setitem(input.CASES, "small", case)
  monkeypatch.setattr(input, "PeerProcess", Peer)
  monkeypatch.setattr(input, "_open", lambda *_: (None, "data"))
  monkeypatch.setattr(input, "_our_batches", lambda *_: None)
  monkeypatch.setattr(input, "_turn", lambda *_: 2.0)
  monkeypatch.setattr(input, "_photometric_seconds", lambda case: 0.75)
  rests = []  # each side's own time, so that it is ready before the other's turn
  monkeypatch.setattr(input.time, "sleep", rests.append)
  recipe, *crops = input.measure("small", 1, None, None)
  assert rests == [2.0, 4.0] * 3
  assert (recipe.ratio, recipe.ours_images_per_second) == (2.0, 4.0)
  assert recipe.all_on_cpu_ratio == 4.0 / (2.0 + 8 * 0.75)
  assert [each.all_on_cpu_ratio for each in crops] == [None, None]


# Our steps take a second.
@pytest.mark.parametrize(
  ("peer_seconds", "turn", "steps", "missed"),
  [
    (3.0, 0.0, 1, False),
    (3.0, 10.0, 3, False),
    (0.5, 0.0, 1, True),
    (0.5, 5.0, 5, True),
  ],
)
def test_the_step_benchmark_compares_the_two_sides_by_turns(
  peer_seconds, turn, steps, missed, monkeypatch
):
  taken, asked = [], []

  class Peer:
    def __init__(self, script, *arguments):
      assert script == "torch_step.py"
      assert {"--batch=64", "--compile", "--side=32"} <= set(arguments)

    def ask(self):
      asked.append(peer_seconds)
      return {"seconds": peer_seconds}

    def close(self):
      pass

  monkeypatch.setattr(train_step, "PeerProcess", Peer)
  step = our_step.OurStep(taken.append, None)
  monkeypatch.setattr(train_step, "make_step", lambda *_, **__: step)
  monkeypatch.setattr(train_step.time, "perf_counter", lambda: float(sum(taken)))
  result = train_step.measure("resnet18_64_compile", 3, turn)
  assert taken == [1, 1, steps, steps, steps]  # the first with compilation
  assert len(asked) == 1 + 3 * steps
  assert result.ours_seconds == 1
  assert result.ratio == peer_seconds
  assert result.missed is missed


@pytest.mark.slow
def test_our_step_counts_more_flop_with_positives_than_without():
  def flops(*, clim):
    config = smoke.get_config()
    step = our_step.make_step(config, devices=1, clim=clim)
    assert np.isfinite(step.take(2))
    return step.program.flops

  # Two encodings with gradient and two without, of one each.
  assert flops(clim=True) / flops(clim=False) == pytest.approx(2, abs=0.1)
