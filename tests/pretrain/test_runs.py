"""Whole small runs: selecting, resuming, labels left alone, and evaluation anew."""

import copy
import json
import shutil

import numpy as np
import pytest
from small_run import IMAGES, ROOT, assert_same_checkpoint, logged, restored, run, small

from clim_jax import launch
from clim_jax.evaluate.features import FeatureExtractor
from clim_jax.evaluate.online import OnlineProbes
from clim_jax.experiment import configuration
from clim_jax.experiment.checkpoints import Checkpoints
from clim_jax.experiment.configuration import ConfigError
from clim_jax.method.state import is_finite


def test_a_run_logs_every_step_and_what_was_selected(center_wise):
  records = logged(center_wise[1])
  assert [record["step"] for record in records] == list(range(1, 9))
  assert all(np.isfinite(record["loss"]) for record in records)
  assert "positive_share" not in records[1]
  assert "selection/empty_share" not in records[1]
  for record in records[2:]:
    assert 0 <= record["positive_share"] <= 1
    assert record["selection/mean_positives"] > 0
    assert "selection/cluster_max" in record


# By day the step of every config is traced: experiment/test_experiment.py.
@pytest.mark.slow
def test_clim_trains_at_five_sides(arrays, tmp_path):
  records = run(small("clim_imagenet", arrays), tmp_path)
  assert all(np.isfinite(record["loss"]) for record in records)
  assert "positive_share" in records[-1]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
  "name", ["moco_v2_imagenet", "moco_v2_multires_imagenet", "clim_imagenet"]
)
def test_imagenet_configs_train_at_their_own_depth(name, arrays, tmp_path):
  config = small(name, arrays)
  config.model.backbone = "resnet50"
  records = run(config, tmp_path)
  assert all(np.isfinite(record["loss"]) for record in records)


# The rules themselves: selection/test_positives.py.
def test_neighbours_alone_train_without_clusters(center_wise, tmp_path):
  config = copy.deepcopy(center_wise[0])  # whose step is the same program
  config.selection.rule = "knn"
  records = run(config, tmp_path)
  assert records[-1]["positive_share"] == 1
  assert records[-1]["selection/mean_positives"] == 6
  assert "selection/cluster_max" not in records[-1]


@pytest.mark.slow  # by day their steps are traced: experiment/test_experiment.py
@pytest.mark.parametrize(("mixture", "symmetric"), [("mixup", True), ("direct", False)])
def test_other_mixtures_train_in_either_loss(mixture, symmetric, arrays, tmp_path):
  config = small(
    "base",
    arrays,
    mixture__kind=mixture,
    moco__symmetric=symmetric,
    moco__momentum_schedule="cosine",
  )
  records = run(config, tmp_path)
  assert np.isfinite(records[-1]["loss"])
  assert records[-1]["key_momentum"] > records[0]["key_momentum"]


def reproducible(records):
  """Records without what only says how long things took."""
  timings = ("seconds", "share_of_epoch", "images_per_second", "per_device")
  timings += ("data_wait_fraction", "mfu")
  return [{k: v for k, v in r.items() if not k.endswith(timings)} for r in records]


@pytest.fixture
def passes(monkeypatch):
  """Grows by one with every pass over the whole set."""
  counted, bank = [], FeatureExtractor.bank

  def count(extractor, *variables):
    counted.append(None)
    return bank(extractor, *variables)

  monkeypatch.setattr(FeatureExtractor, "bank", count)
  return counted


def test_a_run_that_died_goes_on_as_one_that_did_not(center_wise, tmp_path, passes):
  config, whole = center_wise
  died = tmp_path / "died"
  shutil.copytree(whole, died)  # with lines logged after its last checkpoint
  for step in (6, 8):
    shutil.rmtree(died / "checkpoints" / str(step))
  records = run(config, died)
  assert len(passes) == 1
  assert_same_checkpoint(config, whole, died)
  assert [r["loss"] for r in records] == [r["loss"] for r in logged(whole)]
  # From the refresh at epoch 3 on also what was selected.
  assert reproducible(records[6:]) == reproducible(logged(whole)[6:])


def test_resuming_with_another_config_names_the_keys(plain_run, arrays, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(plain_run, workdir)
  config = small("base", arrays, selection__rule="none")
  config.moco.temperature = 0.5
  config.selection.num_neighbours = 5
  with pytest.raises(ConfigError, match=r"(?s)0\.2 → 0\.5.*num_neighbours: 6 → 5"):
    run(config, workdir)
  config = small("base", arrays, selection__rule="none")
  config.log.every_steps = 3
  run(config, workdir)  # what does not shape training may change


def test_what_may_change_goes_on_and_is_kept_in_the_history(
  plain_run, arrays, tmp_path, capsys
):
  workdir = tmp_path / "run"
  shutil.copytree(plain_run, workdir)
  moved = shutil.copy(arrays, tmp_path / "moved.npz")
  config = small("base", moved, selection__rule="none")
  config.epochs, config.optimizer.learning_rate = 3, 0.01
  with (workdir / "metrics.jsonl").open("a") as file:
    file.write('{"step": 5, "lo')
  records = run(config, workdir)
  assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
  said = capsys.readouterr().out
  assert "changed: epochs: 2 → 3; the learning rate follows the longer" in said
  assert "are dropped: 1" in said
  assert "resuming from step 4" in said
  first, second = map(json.loads, (workdir / "history.jsonl").open())
  assert first["changed"] == {}
  assert second["step"] == 4
  assert second["changed"] == {
    "data.path": [str(arrays), str(moved)],
    "epochs": [2, 3],
    "optimizer.learning_rate": [0.03, 0.01],
  }
  assert json.loads((workdir / "config.json").read_text())["epochs"] == 3


def test_other_images_are_refused_before_a_step(plain_run, held_out_arrays, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(plain_run, workdir)
  with pytest.raises(ConfigError, match="not the images that the run began with"):
    run(small("base", held_out_arrays, selection__rule="none"), workdir)


def test_evaluation_restores_a_step_and_reproduces_the_figures(
  arrays, tmp_path, capsys
):
  config, workdir = small("base", arrays, selection__rule="none"), tmp_path / "run"
  config.data.test_path = str(arrays)
  run(config, workdir)
  said = capsys.readouterr().out
  in_order = (
    f"base: {IMAGES} images, 2 epochs of 2 steps",
    "training on CPU (8 devices)",
    "a loss near log(1 + 32) = 3.50 is chance",
    "warning: the run has only 4 steps",
    "compiling",
    "step 4/4  epoch 2.0/2",
    "evaluating this run on train.npz, side 8",
    "evaluating network before training",
    "Top-1 accuracy",
    f"embed --workdir={workdir}",
  )
  places = [said.index(line) for line in in_order]
  assert places == sorted(places)
  path = workdir / "evaluation.json"
  figures = path.read_text()
  encoders = {row["encoder"] for row in json.loads(figures)["results"]}
  assert encoders == {"run", "untrained", "raw_pixels"}
  path.unlink()
  launch.run(config, "evaluate", workdir, launch.Request(quiet=True))
  assert path.read_text() == figures
  lines = capsys.readouterr().out.splitlines()
  assert all(line.startswith("warning: ") for line in lines)
  assert len(lines) == len(json.loads(figures)["warnings"])
  config.evaluation.step = 2
  run(config, workdir, "evaluate")
  assert json.loads(path.read_text())["encoders"]["run"]["step"] == 2
  config.evaluation.step = 3
  with pytest.raises(ConfigError, match=r"there are \[2, 4\]"):
    run(config, workdir, "evaluate")


def test_evaluating_an_empty_workdir_is_refused(tmp_path):
  config = configuration.load(str(ROOT / "configs" / "digits.py"))
  with pytest.raises(ConfigError, match="holds no run"):
    launch.run(config, "evaluate", tmp_path)


def test_labels_never_reach_pretraining(center_wise, arrays, tmp_path):
  config, labelled = center_wise
  with np.load(arrays) as file:
    np.savez(tmp_path / "unlabelled.npz", image=file["image"])
  unlabelled, workdir = copy.deepcopy(config), tmp_path / "unlabelled"
  unlabelled.data.path = str(tmp_path / "unlabelled.npz")
  records = run(unlabelled, workdir)
  assert "selection/knn_precision" not in records[-1]
  assert not (workdir / "evaluation.json").exists()
  assert_same_checkpoint(config, labelled, workdir)


def test_shuffled_labels_change_no_bit_of_the_pretrained_parameters(
  center_wise, arrays, tmp_path
):
  # Everything that reads labels is switched on: figures, probes, evaluation.
  config, own = center_wise
  path, workdir = str(tmp_path / "shuffled.npz"), tmp_path / "shuffled"
  with np.load(arrays) as file:
    shuffled = np.random.default_rng(5).permutation(file["label"])
    np.savez(path, image=file["image"], label=shuffled)
  other = copy.deepcopy(config)
  other.data.update(path=path, test_path=path)
  other.online.every_epochs = 1
  other.evaluation.protocols = ("knn",)
  records = run(other, workdir)
  assert_same_checkpoint(config, own, workdir)
  # The labels did reach what is about labels.
  figure = "selection/knn_precision"
  assert records[-1][figure] != logged(own)[-1][figure]


def test_online_probes_are_logged_by_that_name_and_change_nothing(
  plain_run, arrays, held_out_arrays, tmp_path
):
  config = small("base", arrays, selection__rule="none", online__every_epochs=1)
  config.data.test_path = str(held_out_arrays)
  config.online.neighbours = 5
  config.evaluation.update(protocols=("knn",), references=())
  config.evaluation.knn.update(neighbours=(5,), temperatures=(0.1,))
  records = run(config, tmp_path)
  assert_same_checkpoint(config, plain_run, tmp_path)
  assert not any(key.startswith("online/") for r in logged(plain_run) for key in r)
  probed = {r["step"]: r["online/epoch"] for r in records if "online/epoch" in r}
  assert probed == {2: 1, 4: 2}
  # With all images and the same k and temperature they are what an evaluation finds.
  (row,) = json.loads((tmp_path / "evaluation.json").read_text())["results"]
  assert records[-1]["online/knn_top1"] == row["top1"]
  assert 0 <= records[-1]["online/linear_top1"] <= 1


def test_the_best_by_a_figure_stays_and_can_be_judged(
  arrays, held_out_arrays, tmp_path, monkeypatch, capsys
):
  figures = iter([0.2, 0.9, 0.3, 0.4, 0.5])
  monkeypatch.setattr(
    OnlineProbes,
    "__call__",
    lambda *_: {"knn_top1": next(figures), "linear_top1": 0.0, "seconds": 0.0},
  )
  config = small("base", arrays, selection__rule="none", online__every_epochs=1)
  config.epochs = 4
  config.data.test_path = str(held_out_arrays)
  config.checkpoint.update(best="online/knn_top1", every_epochs=100)
  config.evaluation.update(protocols=("knn",), references=(), best=True)
  config.evaluation.knn.update(neighbours=(5,), temperatures=(0.1,))
  run(config, tmp_path)
  # The first was the best until the second came.
  kept = {int(path.name) for path in (tmp_path / "checkpoints").iterdir()}
  assert kept == {4, 8}
  assert "best by online/knn_top1: step 4, 90.0%" in capsys.readouterr().out

  def judged():
    found = json.loads((tmp_path / "evaluation.json").read_text())
    return [encoder["step"] for encoder in found["encoders"].values()]

  assert judged() == [4]
  config.evaluation.best = False
  launch.run(config, "evaluate", tmp_path)
  assert judged() == [8]
  # Of another figure there is none; training goes on from the newest all the same.
  config.checkpoint.best = "online/linear_top1"
  config.epochs = 5
  run(config, tmp_path)
  assert "resuming from step 8" in capsys.readouterr().out
  (*_, last) = map(json.loads, (tmp_path / "history.jsonl").open())
  assert (last["step"], last["best"]) == (8, None)


def test_a_diverged_loss_stops_the_run_and_says_what_to_do(
  arrays, tmp_path, monkeypatch
):
  closed, close = [], Checkpoints.close
  monkeypatch.setattr(
    Checkpoints, "close", lambda checkpoints: closed.append(close(checkpoints))
  )
  config = small("base", arrays, selection__rule="none")
  config.optimizer.learning_rate = 1e30
  config.checkpoint.update(every_epochs=100, every_minutes=1e-9, keep=10)
  with pytest.raises(
    FloatingPointError, match=r"lower optimizer\.learning_rate .* \(step \d\)"
  ) as raised:
    run(config, tmp_path)
  assert closed  # so that the checkpoint it tells to go on from is whole
  # Only what is finite was saved, and the step that is named is one of these.
  saved = {int(path.name) for path in (tmp_path / "checkpoints").iterdir()}
  assert saved
  assert f"(step {max(saved)})" in str(raised.value)
  state, _ = restored(config, tmp_path)
  assert is_finite(state)
