"""What the benchmark of whole runs makes of their logs."""

import json

import pytest

from benchmarks import device_crops


def test_figures_of_a_run_weigh_its_laps_by_their_time(tmp_path):
  records = [
    {"step": 0},  # all of it was compiling
    {"step": 20, "images_per_second": 100.0, "data_wait_fraction": 0.0},
    {"step": 40, "images_per_second": 300.0, "data_wait_fraction": 0.4},
  ]
  path = tmp_path / "metrics.jsonl"
  path.write_text("".join(json.dumps(record) + "\n" for record in records))
  found = device_crops.figures_of(path)
  assert found["images_per_second"] == pytest.approx(150)  # 2 laps in 1 + ⅓
  assert found["data_wait_fraction"] == pytest.approx(0.1)
