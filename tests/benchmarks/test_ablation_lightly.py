"""The arm of another library: what it is told, what it leaves, how it is judged."""

import json
import math
import pathlib
import types

import jax
import numpy as np
import pytest

from benchmarks import (
  ablation,
  ablation_grid,
  ablation_lightly,
  ablation_results,
  peer_process,
)
from clim_jax.command_line.parse import parse
from clim_jax.evaluate.datasets import evaluation_sets
from clim_jax.experiment import experiment
from clim_jax.experiment.error import ConfigError
from clim_jax.method import optim

CELL = next(
  cell for cell in ablation_grid.cells() if cell.name == "cifar10_part/lightly/seed=2"
)
MOCO = next(
  cell for cell in ablation_grid.cells() if cell.name == "cifar10_part/moco/seed=2"
)
CLASSES, SIDE = 3, 8


def config_of(cell, data, *more):
  return parse([*cell.arguments(data, data / "run"), *more]).config


@pytest.fixture
def toy(tmp_path):
  """A config of few tiny images, whose class is their brightness."""
  folder = tmp_path / "cifar10_part"
  folder.mkdir()
  rng = np.random.default_rng(0)
  for part, count in (("train", 90), ("test", 30)):
    labels = np.arange(count) % CLASSES
    images = 60 + 60 * labels[:, None, None, None] + np.zeros((SIDE, SIDE, 3))
    images += rng.uniform(-20, 20, images.shape)
    np.savez(folder / f"{part}.npz", image=images.astype(np.uint8), label=labels)
  small = {"epochs": 2, "batch_size": 30, "moco.queue_size": 60, "model.width": 4}
  small |= {"views.sides": SIDE, "views.evaluation_side": SIDE}
  small |= {"evaluation.few_label.counts": 2, "evaluation.few_label.seeds": 0}
  more = [f"--config.{key}={value}" for key, value in small.items()]
  return config_of(CELL, tmp_path, *more)


def test_it_has_the_values_of_the_moco_v2_that_it_judges():
  data = pathlib.Path("data")
  ours, theirs = (
    ablation_lightly.options(config_of(cell, data), 5000) for cell in (MOCO, CELL)
  )
  assert ours == theirs


def test_the_options_are_the_configs():
  config = config_of(CELL, pathlib.Path("data"))
  config.optimizer.learning_rate, config.augment.hue = 0.128, 0.07
  found = ablation_lightly.options(config, 5000)
  assert found["steps"] == 7800
  assert found["learning_rate"] == pytest.approx(0.032)  # 64 anchors of 256
  assert found["transform"]["cj_hue"] == 0.07
  assert found["transform"]["gaussian_blur"] == 0.0
  assert (found["seed"], found["queue_size"], found["layers"]) == (2, 2048, (1, 1, 1))


@pytest.mark.parametrize(
  ("section", "key", "value"),
  [("moco", "symmetric", True), ("optimizer", "warmup_epochs", 5.0)],
)
def test_what_the_peer_cannot_do_is_refused(section, key, value):
  config = config_of(CELL, pathlib.Path("data"))
  config[section][key] = value
  with pytest.raises(ConfigError, match=rf"{section}\.{key}"):
    ablation_lightly.options(config, 5000)


def test_the_rate_falls_as_ours_does():
  torch = pytest.importorskip("torch")
  steps, peak = 400, 0.015
  ours = optim.learning_rate_schedule(peak=peak, warmup_steps=0, total_steps=steps)
  weight = torch.nn.Parameter(torch.zeros(1))
  optimizer = torch.optim.SGD([weight], lr=peak)
  schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
  rates = []
  for _ in range(steps):
    rates.append(schedule.get_last_lr()[0])
    optimizer.step()
    schedule.step()
  for step in (0, 100, 200, 390):
    by_hand = peak * (1 + math.cos(math.pi * step / steps)) / 2
    assert rates[step] == pytest.approx(by_hand, rel=1e-5)
    assert float(ours(step)) == pytest.approx(by_hand, rel=1e-4)


def test_features_are_judged_by_every_protocol_and_a_lost_class_is_missed(toy):
  (data,) = evaluation_sets(toy)
  train, test = (
    np.eye(CLASSES, dtype=np.float32)[part]
    for part in (data.train_labels, data.test_labels)
  )
  test[data.test_labels == 2] = test[data.test_labels == 1][0]
  found = ablation_lightly.judge(toy, data, (train, test), "run")
  assert {one.protocol for one in found} == set(toy.evaluation.protocols)
  assert {round(one.top1, 6) for one in found} == {round(2 / 3, 6)}
  assert {one.side for one in found} == {SIDE}


def stand_in(command, **_):
  """In the peer's place: what it would leave."""
  told = json.loads(pathlib.Path(command[-1]).read_text())
  pathlib.Path(told["log"]).write_text('{"step": 6, "loss": 1.5}\n')
  parts = (np.load(told[part])["label"] for part in ("train", "test"))
  train, test = (np.eye(CLASSES, dtype=np.float32)[part] for part in parts)
  np.savez(told["output"], train=train, test=test)


def test_what_it_leaves_makes_a_row_as_of_any_run(toy, tmp_path, monkeypatch):
  monkeypatch.setattr(peer_process, "require_peers", lambda: None)
  monkeypatch.setattr(ablation_lightly.subprocess, "run", stand_in)
  ablation_lightly.run(toy, tmp_path / "run")
  row = ablation_results.row(
    CELL, tmp_path / "run", commit="c", seconds=1.0, resumed=False
  )
  assert (row["arm"], row["steps"], row["selections"]) == ("lightly", 6, [])
  assert row["hardware"] == "1 × cpu (PyTorch)"
  assert {one["encoder"] for one in row["evaluation"]} == {"run"}
  assert {one["dataset"] for one in row["evaluation"]} == {"train.npz"}


def test_its_cell_runs_its_script(tmp_path, monkeypatch):
  seen = []

  def run(command, **_):
    seen.append(command)
    return types.SimpleNamespace(returncode=0)

  monkeypatch.setattr(ablation.subprocess, "run", run)
  assert ablation.run_process(CELL, ["--workdir=w"], tmp_path / "log") == 0
  assert pathlib.Path(seen[0][1]).name == "ablation_lightly.py"
  assert seen[0][2:] == ["--workdir=w"]


def test_the_peer_trains_a_network_of_our_size_and_leaves_its_features(toy, tmp_path):
  """By lightly itself: skipped where there is no environment of peers."""
  if not peer_process.PYTHON.exists():
    pytest.skip("no environment of peers: run benchmarks/setup_peers.sh")
  if not list(peer_process.PYTHON.parents[1].glob("lib/*/site-packages/lightly")):
    pytest.skip("the peers' environment lacks lightly: make it anew")
  ablation_lightly.run(toy, tmp_path / "run")
  log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
  assert [record["step"] for record in log] == [1, 6]
  features = np.load(tmp_path / "run" / "features.npz")
  assert features["train"].shape == (90, 16)  # 4 · 2²
  assert np.isfinite(features["train"]).all()
  mesh = ablation_lightly.sharding.make_mesh(jax.devices()[:1])
  ours = jax.tree.leaves(experiment.init_variables(toy, mesh)["params"])
  assert features["parameters"] == sum(x.size for x in ours)
