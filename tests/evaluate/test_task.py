"""What a task makes of a protocol's accuracies."""

import numpy as np
import pytest

from clim_jax import sharding
from clim_jax.configs import base
from clim_jax.data.crops import CenterCrop
from clim_jax.data.source import ArraySource
from clim_jax.evaluate.datasets import labelled_set
from clim_jax.evaluate.task import Task, over_seeds
from clim_jax.probes.subjects import raw_pixels


@pytest.fixture(scope="module")
def task():
  source = ArraySource(np.zeros((4, 2, 2, 3), np.uint8), np.arange(4) % 2)
  return Task(
    mesh=sharding.make_mesh(),
    subject=raw_pixels(2),
    data=labelled_set("zeros", source, source),
    crop=CenterCrop(2, 1.0),
    flip_probability=0.5,
    config=base.get_config().evaluation,
    track=lambda loop, _: loop,
  )


def setting(k, **figures):
  return {"k": k, "top1": 0.5} | figures


def test_the_headline_is_the_first_of_the_best_judged_whatever_its_test_accuracy(task):
  settings = [
    setting(1, top1=0.9, validation_top1=0.6),
    setting(2, top1=0.1, validation_top1=0.7),
    setting(3, top1=0.8, validation_top1=0.7),
  ]
  result = task.result("knn", "all", settings, {})
  assert (result.chosen, result.top1) == ({"k": 2}, 0.1)


def test_the_only_setting_is_the_headline_without_being_judged(task):
  result = task.result("knn", "all", [setting(7)], {})
  assert (result.chosen, result.top1) == ({"k": 7}, 0.5)


def test_mean_and_sample_deviation_are_those_of_the_seeds():
  a, b, c = top1 = [0.5, 0.75, 0.25]
  mean = (a + b + c) / 3
  deviation = (((a - mean) ** 2 + (b - mean) ** 2 + (c - mean) ** 2) / 2) ** 0.5
  found = over_seeds(top1)
  assert found["top1"] == pytest.approx(mean)
  assert found["std"] == pytest.approx(deviation)
  assert found["top1_by_seed"] == top1
  assert over_seeds([0.5])["std"] is None
