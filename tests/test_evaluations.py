"""Whole evaluations of a small run: every protocol, sets, sides, other runs."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from small_run import CLASSES, ROOT, SIDE, run, shrink_evaluation, small

from clim_jax import configuration, launch
from clim_jax.configuration import ConfigError
from clim_jax.evaluate import evaluation
from clim_jax.evaluate.results import PROTOCOLS, Result

NAMES = [path.stem for path in sorted((ROOT / "configs" / "evaluate").glob("*.py"))]


@pytest.fixture(scope="module")
def workdir(arrays, tmp_path_factory):
  """A run of plain MoCo v2, pretrained and not evaluated."""
  path = tmp_path_factory.mktemp("runs") / "first"
  run(small("base", arrays, selection__rule="none"), path)
  return path


def protocol(name, arrays, **changes):
  """A config of configs/evaluate, shrunk; its run had no test images."""
  config = configuration.load(str(ROOT / "configs" / "evaluate" / f"{name}.py"))
  shrink_evaluation(config.evaluation)
  config.evaluation.sides = (8, 6) if name == "scale" else ()
  config.evaluation.datasets = (f"npz:{arrays},{arrays}",)
  config.evaluation.update(changes)
  return config


def results(workdir, name):
  document = json.loads((workdir / f"evaluation-{name}.json").read_text())
  return document["results"]


@pytest.mark.parametrize("name", NAMES)
def test_every_protocol_judges_the_run_and_both_references(name, workdir, arrays):
  config = protocol(name, arrays)
  launch.run(config, "evaluate", workdir)
  rows = results(workdir, name)
  assert {row["encoder"] for row in rows} == {"first", "untrained", "raw_pixels"}
  assert {row["protocol"] for row in rows} == set(config.evaluation.protocols)
  for row in rows:
    assert set(row) == {field.name for field in dataclasses.fields(Result)}
    # A multiple of one test image; the mean over two draws, of half of one.
    assert 0 <= row["top1"] <= 1
    assert row["top1"] * 38 * 2 == pytest.approx(round(row["top1"] * 38 * 2))
    assert row["stamp"]["test_images"] == 38
    judged = [setting.get("validation_top1") for setting in row["settings"]]
    best = row["settings"][int(np.argmax(judged)) if len(judged) > 1 else 0]
    assert best["top1"] == row["top1"]
    assert row["chosen"].items() <= best.items()


def test_there_is_a_function_for_every_protocol():
  assert tuple(evaluation._RUN) == PROTOCOLS


def test_sides_give_a_row_each_and_a_curve(workdir, arrays):
  launch.run(protocol("scale", arrays, protocols=("knn",)), "evaluate", workdir)
  rows = results(workdir, "scale")
  assert [row["side"] for row in rows if row["encoder"] == "first"] == [8, 6]
  with Image.open(workdir / "evaluation-scale.png") as image:
    assert min(image.size) > 200


def test_sets_give_a_row_each_and_other_runs_stand_beside(workdir, arrays, tmp_path):
  other = workdir.parent / "second"
  if not other.exists():
    run(small("base", arrays, selection__rule="none"), other)
  with np.load(arrays) as file:
    swapped = {"image": file["image"][::-1], "label": (file["label"] + 1) % CLASSES}
  np.savez(tmp_path / "swapped.npz", **swapped)
  sets = (f"npz:{arrays},{arrays}", f"npz:{tmp_path}/swapped.npz,{arrays}")
  config = protocol("knn", arrays, datasets=sets, compare=(str(other),))
  launch.run(config, "evaluate", workdir)
  rows = results(workdir, "knn")
  found = {(row["dataset"], row["encoder"]): row["settings"] for row in rows}
  encoders = ("first", "second", "untrained", "raw_pixels")
  assert set(found) == {(d, e) for d in ("train", "swapped") for e in encoders}
  # The same seed and config made both runs.
  assert found["train", "first"] == found["train", "second"]
  assert found["train", "first"] != found["swapped", "first"]


def test_runs_of_one_name_are_refused(workdir, arrays):
  config = protocol("knn", arrays, compare=(str(workdir),))
  with pytest.raises(ConfigError, match="named first, first"):
    launch.run(config, "evaluate", workdir)


@pytest.mark.parametrize("text", ["npz:nowhere.npz", "disk:x", "npz:{arrays}"])
def test_a_set_that_cannot_be_used_is_named(text, workdir, arrays):
  text = text.format(arrays=arrays)
  config = protocol("knn", arrays, datasets=(text,))
  if text == f"npz:{arrays}":  # without test images, as the run holds out none
    launch_error = "needs labels and test images"
  else:
    launch_error = f"cannot open '{text}'"
  with pytest.raises(ConfigError, match=launch_error):
    launch.run(config, "evaluate", workdir)


def test_label_lists_name_files(workdir, tmp_path):
  rng = np.random.default_rng(0)
  for index in range(24):
    path = tmp_path / "set" / ("val" if index % 2 else "train") / f"c{index % 3}"
    path.mkdir(parents=True, exist_ok=True)
    image = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(image).save(path / f"{index}.png")
  (tmp_path / "list.txt").write_text("0.png\n2.png\n10.png\n")
  config = protocol("semi_supervised", "", datasets=(f"folder:{tmp_path}/set",))
  config.evaluation.references = ()
  config.evaluation.finetune.update(fractions=(0.25,), seeds=(0,))
  config.evaluation.finetune.label_lists = (str(tmp_path / "list.txt"),)
  # The run's own split names are those of its config.
  with pytest.raises(ConfigError, match="needs labels and test images"):
    launch.run(config, "evaluate", workdir)
  (tmp_path / "set" / "val").rename(tmp_path / "set" / "test")
  launch.run(config, "evaluate", workdir)
  (row,) = results(workdir, "semi_supervised")
  assert row["stamp"]["labels_used"] == 3
  assert row["stamp"]["subset"].endswith("list.txt")
  (tmp_path / "list.txt").write_text("0.png\nelsewhere.png\n")
  with pytest.raises(ConfigError, match=r"25% of the labels: 1 of 2 listed files"):
    launch.run(config, "evaluate", workdir)


def test_layers_and_encoders_differ(workdir, arrays):
  settings = {}
  for layer, encoder in (
    ("features", "query"),
    ("embedding", "query"),
    ("features", "key"),
  ):
    config = protocol("knn", arrays, layer=layer, encoder=encoder, references=())
    launch.run(config, "evaluate", workdir)
    (row,) = results(workdir, "knn")
    assert row["stamp"]["features"] == f"{encoder} encoder, {layer}"
    settings[layer, encoder] = [setting["top1"] for setting in row["settings"]]
  assert settings["features", "query"] != settings["embedding", "query"]
