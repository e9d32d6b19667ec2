"""Whole small runs: every config, every arm, resuming, and evaluation anew."""

import json

import jax
import numpy as np
import pytest
from small_run import IMAGES, ROOT, run, small

from clim_jax import launch
from clim_jax.evaluate.features import FeatureExtractor
from clim_jax.experiment import configuration
from clim_jax.experiment.checkpoints import Checkpoints
from clim_jax.experiment.configuration import ConfigError
from clim_jax.experiment.experiment import open_experiment


# ImageNet's ResNet-50 at five sides compiles for minutes; every config has the small
# network here, and the ImageNet ones their own in the slow test below.
@pytest.mark.parametrize(
  "name", [path.stem for path in sorted((ROOT / "configs").glob("*.py"))]
)
def test_every_config_trains(name, arrays, tmp_path):
  config = small(name, arrays)
  records = run(config, tmp_path)
  assert [record["step"] for record in records] == [1, 2, 3, 4]
  assert all(np.isfinite(record["loss"]) for record in records)
  selects = config.selection.rule != "none"
  assert ("positive_share" in records[-1]) == selects
  assert ("selection/empty_share" in records[-1]) == selects
  assert "selection/empty_share" not in records[0]


@pytest.mark.slow
@pytest.mark.parametrize(
  "name", ["moco_v2_imagenet", "moco_v2_multires_imagenet", "clim_imagenet"]
)
def test_imagenet_configs_train_at_their_own_depth(name, arrays, tmp_path):
  config = small(name, arrays)
  config.model.backbone = "resnet50"
  records = run(config, tmp_path)
  assert all(np.isfinite(record["loss"]) for record in records)


@pytest.mark.parametrize(
  "rule", ["knn", "cluster", "cluster_closer", "knn_cluster", "center_wise"]
)
def test_every_selection_arm_trains(rule, arrays, tmp_path):
  records = run(small("base", arrays, selection__rule=rule), tmp_path)
  assert 0 <= records[-1]["positive_share"] <= 1
  assert records[-1]["selection/mean_positives"] > 0
  expects_clusters = rule != "knn"
  assert ("selection/cluster_max" in records[-1]) == expects_clusters


@pytest.mark.parametrize("mixture", ["mixup", "direct"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_every_mixture_trains_in_both_losses(mixture, symmetric, arrays, tmp_path):
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


@pytest.mark.parametrize("optimizer", ["lars", "adamw"])
def test_every_optimizer_trains(optimizer, arrays, tmp_path):
  config = small(
    "base",
    arrays,
    optimizer__name=optimizer,
    optimizer__decay_all=False,
  )
  records = run(config, tmp_path)
  assert np.isfinite(records[-1]["loss"])


def restored(config, workdir, step=None):
  """All that a checkpoint holds, by default of the newest."""
  experiment = open_experiment(config)
  checkpoints = Checkpoints(workdir / "checkpoints")
  step = checkpoints.newest() if step is None else step
  checkpoint = checkpoints.restore(step, experiment.init_state())
  checkpoints.close()
  return jax.device_get(checkpoint)


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


def test_two_steps_then_restored_two_more_equal_four(arrays, tmp_path, passes):
  config = small("base", arrays)
  config.epochs = 4  # of two steps; selection at epochs 1 and, restored, 2 and 3
  config.selection.refresh_epochs = 2
  whole, halves = tmp_path / "whole", tmp_path / "halves"
  config.checkpoint.keep = 10
  whole_records = run(config, whole)
  run(config, halves)
  # As if the run had died after step 4, with later lines already logged.
  for step in (6, 8):
    _remove(halves / "checkpoints" / str(step))
  passes.clear()
  halves_records = run(config, halves)
  assert len(passes) == 1
  for a, b in zip(
    jax.tree.leaves(restored(config, whole)),
    jax.tree.leaves(restored(config, halves)),
    strict=True,
  ):
    np.testing.assert_array_equal(a, b)
  losses = [[r["loss"] for r in records] for records in (whole_records, halves_records)]
  assert losses[0] == losses[1]
  # From the refresh at epoch 3 on also what was selected.
  assert reproducible(whole_records[6:]) == reproducible(halves_records[6:])


def _remove(path):
  for child in path.iterdir():
    _remove(child) if child.is_dir() else child.unlink()
  path.rmdir()


def test_resuming_with_another_config_names_the_keys(arrays, tmp_path):
  config = small("base", arrays, selection__rule="none")
  run(config, tmp_path)
  config.moco.temperature = 0.5
  config.selection.num_neighbours = 5
  with pytest.raises(ConfigError, match=r"(?s)0\.2 → 0\.5.*num_neighbours: 6 → 5"):
    run(config, tmp_path)
  config = small("base", arrays, selection__rule="none")
  config.log.every_steps = 3
  run(config, tmp_path)  # what does not shape training may change


def test_evaluation_restores_a_step_and_reproduces_the_figures(
  arrays, tmp_path, capsys
):
  config, workdir = small("base", arrays, selection__rule="none"), tmp_path / "run"
  config.data.test_path = str(arrays)
  config.augment.update(jitter_probability=0.8, blur_probability=0.5)
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


def test_labels_never_reach_pretraining(arrays, tmp_path):
  config = small("base", arrays)
  run(config, tmp_path / "labelled")
  with np.load(arrays) as file:
    np.savez(tmp_path / "unlabelled.npz", image=file["image"])
  unlabelled = small("base", tmp_path / "unlabelled.npz")
  records = run(unlabelled, tmp_path / "unlabelled")
  assert "selection/knn_precision" not in records[-1]
  assert not (tmp_path / "unlabelled" / "evaluation.json").exists()
  for a, b in zip(
    jax.tree.leaves(restored(config, tmp_path / "labelled")),
    jax.tree.leaves(restored(unlabelled, tmp_path / "unlabelled")),
    strict=True,
  ):
    np.testing.assert_array_equal(a, b)


def test_shuffled_labels_change_no_bit_of_the_pretrained_parameters(arrays, tmp_path):
  # Everything that reads labels is switched on: figures, probes, evaluation.
  with np.load(arrays) as file:
    shuffled = np.random.default_rng(5).permutation(file["label"])
    np.savez(tmp_path / "shuffled.npz", image=file["image"], label=shuffled)
  states, records = [], []
  for name, path in (("own", arrays), ("other", tmp_path / "shuffled.npz")):
    config = small("base", path, selection__label_figures=True)
    config.data.test_path = str(path)
    config.online.every_epochs = 1
    config.evaluation.protocols = ("knn",)
    records.append(run(config, tmp_path / name))
    states.append(restored(config, tmp_path / name))
  for a, b in zip(*map(jax.tree.leaves, states), strict=True):
    np.testing.assert_array_equal(a, b)
  figures = [r[-1]["selection/knn_precision"] for r in records]
  assert figures[0] != figures[1]  # the labels did reach what is about labels


def test_online_probes_are_logged_by_that_name_and_change_nothing(
  arrays, held_out_arrays, tmp_path
):
  states, records = [], []
  for every in (0, 1):
    config = small("base", arrays, selection__rule="none", online__every_epochs=every)
    config.data.test_path = str(held_out_arrays)
    config.online.neighbours = 5
    config.evaluation.update(protocols=("knn",), references=())
    config.evaluation.knn.update(neighbours=(5,), temperatures=(0.1,))
    records.append(run(config, tmp_path / str(every)))
    states.append(restored(config, tmp_path / str(every)))
  for a, b in zip(*map(jax.tree.leaves, states), strict=True):
    np.testing.assert_array_equal(a, b)
  assert not any(key.startswith("online/") for r in records[0] for key in r)
  probed = {r["step"]: r["online/epoch"] for r in records[1] if "online/epoch" in r}
  assert probed == {2: 1, 4: 2}
  # With all images and the same k and temperature they are what an evaluation finds.
  (row,) = json.loads((tmp_path / "1" / "evaluation.json").read_text())["results"]
  assert records[1][-1]["online/knn_top1"] == row["top1"]
  assert 0 <= records[1][-1]["online/linear_top1"] <= 1


def test_a_diverged_loss_stops_the_run_and_says_what_to_do(arrays, tmp_path):
  config = small("base", arrays, selection__rule="none")
  config.optimizer.learning_rate = 1e30
  with pytest.raises(FloatingPointError, match=r"lower optimizer\.learning_rate"):
    run(config, tmp_path)
