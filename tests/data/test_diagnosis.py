"""Why a run waits for its input."""

import images
import numpy as np
import pytest

from clim_jax.data import diagnosis
from clim_jax.data.crops import RandomCrop
from clim_jax.data.cuts import ViewPlan
from clim_jax.data.diagnosis import StageSeconds
from clim_jax.data.sources import load_source

PLAN = ViewPlan((RandomCrop(8, (0.2, 1.0), (1.0, 1.0)),), False)


@pytest.mark.parametrize(
  ("seconds", "mend"),
  [((9, 1, 1), "data.path"), ((1, 9, 1), "CPU cores"), ((1, 1, 9), "batch_size")],
)
def test_the_advice_is_about_the_slowest_stage(seconds, mend):
  line = StageSeconds(*seconds).advice(0.25)
  assert mend in line
  assert line.startswith("waiting for data 25% of the time")
  assert "\n" not in line


def test_slow_reading_is_found_to_be_slow(tmp_path, monkeypatch):
  for i in range(4):
    picture = np.full((9, 9, 3), i, np.uint8)
    images.write_png(tmp_path / "train" / "a" / f"{i}.png", picture)
  source, _ = load_source(
    "folder",
    path=str(tmp_path),
    test_path="",
    tfds_name="",
    train_split="train",
    test_split="",
    test_fraction=0.0,
  )
  quick = diagnosis.measure_stages(source, PLAN)

  def slow_load(path, load=source.load):
    diagnosis.time.sleep(0.1)
    return load(path)

  object.__setattr__(source, "load", slow_load)
  slow = diagnosis.measure_stages(source, PLAN)
  assert slow.read > quick.read + 0.09
  assert "data.path" in slow.advice(0.5)


def test_arrays_in_memory_cost_no_reading():
  stages = diagnosis.measure_stages(images.constant_source(40), PLAN)
  assert stages.read == 0
  line = stages._replace(decode_and_crop=9.0).advice(0.5)
  assert "views.sides" in line
  assert "store smaller images" not in line
  assert "read" not in line
