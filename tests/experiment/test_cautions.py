"""Runs that are not what they seem are told before the first step."""

import io

import numpy as np
import pytest
from rich.console import Console
from small_run import ROOT

from clim_jax.data.source import About, ArraySource
from clim_jax.experiment import configuration
from clim_jax.experiment.cautions import cautions, tell_of, warn

STEPS, IMAGES = 5000, 100_000  # enough of both


def told(*, num_images=IMAGES, total_steps=STEPS, **changes):
  config = configuration.load(str(ROOT / "configs" / "base.py"))
  config.update_from_flattened_dict(
    {k.replace("__", "."): v for k, v in changes.items()}
  )
  return cautions(config, num_images=num_images, total_steps=total_steps)


def test_a_run_that_is_what_it_says_is_not_warned_of():
  assert not told()


@pytest.mark.parametrize(
  ("changes", "value", "limit", "mend"),
  [
    ({"epochs": 10}, "selection.warmup_epochs=10", "run has 10", "raise epochs"),
    (
      {"epochs": 20, "optimizer__warmup_epochs": 20.0},
      "optimizer.warmup_epochs=20",
      "run has 20",
      "lower optimizer.warmup_epochs",
    ),
    (
      {"num_images": 5000, "selection__num_centers": 100},
      *("queue_size=65536", "5000 training", "at most 4096"),
    ),
    (
      {"selection__num_centers": 2501},
      *("num_centers=2501", "num_neighbours=40", "at most 2500"),
    ),
    ({"views__sides": (64,)}, "side=32", "at 64 pixels", "evaluation_side=64"),
    ({"total_steps": 1999}, "1999 steps", "below 2,000", "lower batch_size"),
    ({"total_steps": 499, "moco__momentum": 0.9}, "499", "below 500", "epochs"),
  ],
)
def test_each_has_its_value_its_limit_and_the_mend(changes, value, limit, mend):
  (line,) = told(**changes)
  assert value in line
  assert limit in line
  assert mend in line


@pytest.mark.parametrize(
  "changes",
  [
    {"epochs": 11},
    {"epochs": 10, "selection__rule": "none"},
    {"num_images": 65536},
    {"selection__num_centers": 2500},
    {"selection__num_centers": 2501, "selection__rule": "cluster"},
    {"selection__num_centers": 2501, "selection__rule": "knn"},
    {"views__sides": (64, 48, 32)},
    {"total_steps": 2000},
    {"total_steps": 500, "moco__momentum": 0.9},
    {"total_steps": 500, "moco__momentum": 1.0},
  ],
)
def test_what_is_within_the_limits_is_not(changes):
  assert not told(**changes)


def test_the_default_run_is_not_warned_of():
  config = configuration.load(str(ROOT / "configs" / "digits.py"))
  assert not cautions(config, num_images=1437, total_steps=880)


@pytest.mark.parametrize("quiet", [False, True])
def test_a_warning_is_one_line_with_flags_also_where_all_is_quiet(
  quiet,
):
  console = Console(file=io.StringIO(), width=20, quiet=quiet)
  warn(console, ["[red] " + "long " * 20 + "set moco.queue_size"])
  assert console.file.getvalue().count("\n") == 1
  assert console.file.getvalue().startswith("warning: [red] long")
  assert console.file.getvalue().endswith("set --config.moco.queue_size\n")
  assert console.quiet == quiet


def test_what_images_were_taken_for_is_said_once_with_flags():
  pixels, about = np.zeros((1, 2, 2, 3), np.uint8), ("set data.labels=none",)
  train = ArraySource(pixels, None, About(facts=about))
  test = ArraySource(pixels, None, About(facts=about, warnings=("no evaluation",)))
  out = io.StringIO()
  tell_of(Console(file=out), train, test)
  tell_of(Console(file=out), train, None)
  fact = "set --config.data.labels=none"
  assert out.getvalue().splitlines() == [fact, "warning: no evaluation", fact]
