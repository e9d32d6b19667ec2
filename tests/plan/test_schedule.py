"""What is planned to happen, against what happens in a run."""

import json

import pytest
from small_run import run, small

from clim_jax.experiment.experiment import open_experiment
from clim_jax.plan.schedule import schedule_of


def planned(arrays, **changes):
  config = small("base", arrays, **changes)
  config.epochs = 23
  return schedule_of(open_experiment(config))


def test_steps_are_plain_before_the_first_selection_and_mixed_after(arrays):
  # 38 images in batches of 16.
  found = planned(arrays, selection__warmup_epochs=4, selection__refresh_epochs=5)
  assert (found.steps_per_epoch, found.images_left_over) == (2, 6)
  assert (found.plain_steps, found.mixed_steps) == (8, 38)
  assert found.selections == 4  # at 4, 9, 14 and 19
  assert found.steps == 46


@pytest.mark.parametrize(
  "changes", [{"selection__rule": "none"}, {"selection__warmup_epochs": 23}]
)
def test_without_a_selection_all_steps_are_plain(arrays, changes):
  found = planned(arrays, **changes)
  assert (found.plain_steps, found.mixed_steps, found.selections) == (46, 0, 0)


@pytest.mark.parametrize(
  ("every", "keep", "minutes", "saves", "kept"),
  [(10, 1, 0.0, 3, 3), (10, 2, 10.0, 3, 6), (1, 4, 0.0, 23, 5), (50, 2, 0.0, 1, 1)],
)
def test_saves_are_counted_with_the_last_one(arrays, every, keep, minutes, saves, kept):
  found = planned(
    arrays,
    checkpoint__every_epochs=every,
    checkpoint__keep=keep,
    checkpoint__every_minutes=minutes,
  )
  assert (found.saves, found.saves_kept) == (saves, kept)


@pytest.mark.slow
def test_a_run_selects_and_steps_as_planned(arrays, tmp_path):
  config = small("base", arrays, selection__warmup_epochs=1)
  config.epochs, config.selection.refresh_epochs = 4, 2
  expected = schedule_of(open_experiment(config))
  records = run(config, tmp_path / "run")
  assert len(records) == expected.steps == 8
  mixed = [record for record in records if "selection/seconds" in record]
  assert len(mixed) == expected.mixed_steps
  assert len({record["selection/seconds"] for record in mixed}) == expected.selections
  assert json.loads((tmp_path / "run" / "config.json").read_text())["epochs"] == 4
