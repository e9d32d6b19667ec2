"""Two processes of two devices train the run that one with four devices trains."""

import dataclasses

import jax
import numpy as np
import processes
import pytest
from rich.console import Console
from small_run import logged, restored
from train_in_process import __file__ as program
from train_in_process import config

from clim_jax import sharding
from clim_jax.experiment.experiment import open_experiment
from clim_jax.pretrain.pretrain import pretrain


@pytest.mark.slow  # another job of two processes: evaluate/test_evaluations.py
def test_two_processes_see_select_and_learn_what_one_does(arrays, tmp_path):
  alone, together = tmp_path / "alone", tmp_path / "together"
  four = sharding.make_mesh(jax.devices()[:4])
  experiment = dataclasses.replace(open_experiment(config(arrays)), mesh=four)
  pretrain(experiment, alone, Console(quiet=True))
  processes.run_together(
    lambda port, process: [program, port, process, arrays, together],
    processes=2,
    devices=2,
  )
  here, there = logged(together), logged(alone)
  assert [record["step"] for record in here] == [record["step"] for record in there]
  for a, b in zip(here, there, strict=True):
    # Other images would change a loss wholly; other orders of sums its last digits.
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    assert a.get("selection/mean_positives") == b.get("selection/mean_positives")
  assert len(list(together.glob("events.out.*"))) == 1  # by process 0 alone
  tables = [restored(config(arrays), path).positives for path in (together, alone)]
  for a, b in zip(*tables, strict=True):
    np.testing.assert_array_equal(a, b)
