"""Whole evaluations of a small run: every protocol, sets, sides, other runs."""

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import processes
import pytest
from PIL import Image
from small_run import (
  CLASSES,
  ROOT,
  SIDE,
  TEST_IMAGES,
  restored,
  shrink_evaluation,
  small,
)
from tiny_subject import mesh, subject

from clim_jax import launch
from clim_jax.data.crops import CenterCrop, RandomCrop
from clim_jax.data.labelled import LabelledStream, labelled_batches
from clim_jax.data.source import ArraySource
from clim_jax.data.sources import folder_source
from clim_jax.evaluate import crop_protocols, evaluation
from clim_jax.evaluate.datasets import LabelledSet, labelled_set
from clim_jax.evaluate.results import Result
from clim_jax.evaluate.task import Task
from clim_jax.experiment import configuration
from clim_jax.experiment.configuration import ConfigError, Overrides
from clim_jax.experiment.limits import PROTOCOLS
from clim_jax.experiment.runs import open_run

NAMES = [path.stem for path in sorted((ROOT / "configs" / "evaluate").glob("*.py"))]
# Their protocols are those of others; of sides there is a test by itself.
_AT_NIGHT = ("transfer", "scale")


@pytest.fixture(scope="module")
def workdir(plain_run, tmp_path_factory):
  """A copy, for evaluations leave files."""
  return shutil.copytree(plain_run, tmp_path_factory.mktemp("judged") / "first")


@pytest.fixture(scope="module")
def own(arrays, held_out_arrays):
  """The sets of a run that had no test images."""
  return (f"npz:{arrays},{held_out_arrays}",)


def protocol(name, datasets, **changes):
  """A config of configs/evaluate, shrunk."""
  config = configuration.load(str(ROOT / "configs" / "evaluate" / f"{name}.py"))
  shrink_evaluation(config.evaluation)
  config.evaluation.scales = (1.0, 0.75) if name == "scale" else (1.0,)
  config.evaluation.datasets = datasets
  config.evaluation.update(changes)
  return config


def results(workdir, name):
  document = json.loads((workdir / f"evaluation-{name}.json").read_text())
  return document["results"]


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(name, marks=[pytest.mark.slow] if name in _AT_NIGHT else [])
    for name in NAMES
  ],
)
def test_every_protocol_judges_the_run_and_both_references(name, workdir, own):
  config = protocol(name, own)
  launch.run(config, "evaluate", workdir)
  rows = results(workdir, name)
  assert {row["encoder"] for row in rows} == {"first", "untrained", "raw_pixels"}
  assert {row["protocol"] for row in rows} == set(config.evaluation.protocols)
  for row in rows:
    assert set(row) == {field.name for field in dataclasses.fields(Result)}
    assert 0 <= row["top1"] <= 1
    # A multiple of one test image; the mean over two draws, of half of one.
    images = row["top1"] * TEST_IMAGES * 2
    assert images == pytest.approx(round(images))
    assert row["stamp"]["test_images"] == TEST_IMAGES
    judged = [setting.get("validation_top1") for setting in row["settings"]]
    best = row["settings"][int(np.argmax(judged)) if len(judged) > 1 else 0]
    assert best["top1"] == row["top1"]
    assert row["chosen"].items() <= best.items()


def test_test_labels_play_no_part_in_any_choice(
  workdir, own, held_out_arrays, tmp_path
):
  with np.load(held_out_arrays) as file:
    permuted = (file["label"] + np.arange(TEST_IMAGES) // 9) % CLASSES
    np.savez(tmp_path / "test.npz", image=file["image"], label=permuted)
  found = []
  for datasets in (own, (own[0].split(",")[0] + f",{tmp_path}/test.npz",)):
    config = protocol("knn", datasets, references=(), protocols=PROTOCOLS)
    launch.run(config, "evaluate", workdir)
    found.append(results(workdir, "knn"))
  for row, other in zip(*found, strict=True):
    assert row["chosen"] == other["chosen"]
    values = [[s.get("validation_top1") for s in r["settings"]] for r in (row, other)]
    assert values[0] == values[1]
    if row["protocol"] == "knn":
      # Of random images only an image's own neighbour is always of its class.
      assert all(value < 1 for value in values[0])
  tops = [[s["top1"] for row in rows for s in row["settings"]] for rows in found]
  assert tops[0] != tops[1]


def test_there_is_a_function_for_every_protocol():
  assert tuple(evaluation._RUN) == PROTOCOLS


@pytest.mark.parametrize(
  ("name", "fraction"), [("linear", None), ("finetune", 0.5), ("finetune", 1.0)]
)
def test_no_image_judges_what_was_trained_on_it(
  name, fraction, workdir, own, monkeypatch
):
  events = []  # ("fit" or "judge", ids) in their order
  stream, subset = crop_protocols._stream, ArraySource.subset

  def record_fit(task, ids, *rest):
    events.append(("fit", set(ids.tolist())))
    return stream(task, ids, *rest)

  def record_judgement(source, ids):
    events.append(("judge", set(ids.tolist())))
    return subset(source, ids)

  monkeypatch.setattr(crop_protocols, "_stream", record_fit)
  monkeypatch.setattr(ArraySource, "subset", record_judgement)
  config = protocol("knn", own, protocols=(name,), references=())
  config.evaluation.finetune.update(fractions=(fraction or 1.0,), seeds=(0,))
  launch.run(config, "evaluate", workdir)
  judgements = [i for i, (what, _) in enumerate(events) if what == "judge"]
  assert len(judgements) == (1 if name == "linear" else 2)
  for place in judgements:
    fits = [ids for what, ids in events[:place] if what == "fit"]
    assert events[place][1]
    assert not events[place][1] & fits[-1]


def test_sides_give_a_row_each_and_a_curve(workdir, own):
  launch.run(protocol("scale", own, protocols=("knn",)), "evaluate", workdir)
  rows = results(workdir, "scale")
  assert [row["side"] for row in rows if row["encoder"] == "first"] == [8, 6]
  with Image.open(workdir / "evaluation-scale.png") as image:
    assert min(image.size) > 200


def test_sets_give_a_row_each_and_other_runs_stand_beside(
  workdir, arrays, held_out_arrays, own, tmp_path
):
  other = tmp_path / "second"
  shutil.copytree(workdir, other)
  with np.load(arrays) as file:
    swapped = {"image": file["image"][::-1], "label": (file["label"] + 1) % CLASSES}
  np.savez(tmp_path / "swapped.npz", **swapped)
  sets = (*own, f"npz:{tmp_path}/swapped.npz,{held_out_arrays}")
  config = protocol("knn", sets, compare=(f"beside={other}",))
  launch.run(config, "evaluate", workdir)
  rows = results(workdir, "knn")
  found = {(row["dataset"], row["encoder"]): row["settings"] for row in rows}
  encoders = ("first", "beside", "untrained", "raw_pixels")
  assert set(found) == {(d, e) for d in ("train", "swapped") for e in encoders}
  assert found["train", "first"] == found["train", "beside"]
  assert found["train", "first"] != found["swapped", "first"]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"compare": ("{workdir}",)}, "named first, first"),
    ({"compare": ("untrained={workdir}",)}, "differ, also from untrained"),
    ({"datasets": ("npz:nowhere.npz",)}, "cannot open 'npz:nowhere.npz'"),
    ({"datasets": ("disk:x",)}, "known are digits, npz:TRAIN"),
    ({"datasets": ("digits", "digits")}, "named digits, digits"),
    ({"datasets": ("npz:{unlabelled}",)}, "images without labels"),
  ],
)
def test_what_cannot_be_judged_is_said(changes, message, workdir, arrays, tmp_path):
  with np.load(arrays) as file:
    np.savez(tmp_path / "unlabelled.npz", image=file["image"])
  names = {"workdir": workdir, "unlabelled": tmp_path / "unlabelled.npz"}
  changes = {k: tuple(v.format(**names) for v in texts) for k, texts in changes.items()}
  datasets = changes.pop("datasets", (f"npz:{arrays}",))
  with pytest.raises(ConfigError, match=message):
    launch.run(protocol("knn", datasets, **changes), "evaluate", workdir)


def test_figures_found_before_a_failure_are_kept(workdir, own, monkeypatch):
  def fail(_):
    raise FloatingPointError

  monkeypatch.setitem(evaluation._RUN, "few_label", fail)
  config = protocol("knn", own, protocols=("knn", "few_label"))
  with pytest.raises(FloatingPointError):
    launch.run(config, "evaluate", workdir)
  assert [row["protocol"] for row in results(workdir, "knn")] == ["knn"]


def folder(path, *, bad=()):
  """48 images of three classes, every other one for testing; some cannot be read."""
  rng = np.random.default_rng(0)
  for index in range(48):
    file = path / ("val" if index % 2 else "train") / f"c{index % 3}" / f"{index}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    image = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(image).save(file)
    if index in bad:
      file.write_bytes(b"no image")
  return path


def test_a_folder_is_tested_on_its_own_test_part(workdir, tmp_path):
  datasets = (f"folder:{folder(tmp_path / 'set')}",)
  launch.run(protocol("knn", datasets, references=()), "evaluate", workdir)
  (row,) = results(workdir, "knn")
  stamp = row["stamp"]
  assert (stamp["train_images"], stamp["test_images"]) == (24, 24)
  assert stamp["test_part"] == "its own, val"
  (tmp_path / "set" / "val").rename(tmp_path / "set" / "elsewhere")
  launch.run(protocol("knn", datasets, references=()), "evaluate", workdir)
  (row,) = results(workdir, "knn")
  assert row["stamp"]["test_part"] == "20% held out of its training images"


def test_images_seen_in_place_of_bad_ones_have_their_own_labels(tmp_path):
  source, paths = folder_source(
    str(folder(tmp_path / "set", bad=(0, 18)) / "train"), on_bad_image="skip"
  )
  names = [pathlib.Path(path).stem for path in paths]
  assert names[:4] == ["0", "12", "18", "24"]
  crop = CenterCrop(SIDE, 1.0)
  numbers = np.arange(source.num_images)
  data = LabelledSet("", source, source, numbers, numbers, source.num_images, "")
  config = configuration.load(str(ROOT / "configs" / "base.py")).evaluation
  config.batch_size = 8
  task = Task(mesh(1), subject(), data, crop, 0.0, config, lambda loop, _: loop)
  rows = task.embed(task.subject, source, numbers, "features")
  assert source.stand_ins == {0: 1, 2: 3}
  assert rows.labels[:4].tolist() == [1, 1, 3, 3]
  np.testing.assert_array_equal(rows.features[0], rows.features[1])
  batches = labelled_batches(
    mesh(1),
    source,
    numbers,
    LabelledStream(np.asarray([0, 2, 7]), batch_size=3, seed=0),
    RandomCrop(SIDE, (1.0, 1.0), (1.0, 1.0)),
    steps=1,
    flip_probability=0.0,
  )
  assert sorted(next(batches).labels) == [1, 3, 7]


@pytest.mark.slow
def test_two_processes_find_what_one_finds_bad_images_included(workdir, tmp_path):
  # One bad image for each process: rows 0 and 8 of the first batch of 16.
  datasets = (f"folder:{folder(tmp_path / 'set', bad=(0, 10))}",)
  keys = {
    "evaluation.datasets": datasets,
    "evaluation.references": (),
    "evaluation.protocols": ("knn", "linear"),
    "evaluation.name": "knn",
    "evaluation.linear.epochs": 1,
    "data.on_bad_image": "skip",
  }
  config = protocol("knn", datasets)
  for key, value in keys.items():
    section, name = key.rsplit(".", 1)
    config.update_from_flattened_dict({f"{section}.{name}": value})
  request = launch.Request(overrides=Overrides(False, tuple(keys)))
  launch.run(config, "evaluate", workdir, request)
  expected = results(workdir, "knn")
  assert expected[0]["stamp"]["bad_images"] == 2

  command = ["main.py", "--mode=evaluate", f"--workdir={workdir}"]
  command += [f"--config.{key}={value}" for key, value in keys.items()]
  command += ["--distributed", "--num_processes=2"]
  processes.run_together(
    lambda port, i: [*command, f"--coordinator=localhost:{port}", f"--process_id={i}"],
    processes=2,
    devices=2,
  )
  for one, two in zip(expected, results(workdir, "knn"), strict=True):
    assert two["stamp"] == one["stamp"]
    if one["protocol"] == "knn":
      assert two["settings"] == one["settings"]
    # Sums in another order may turn one of the 24 test images.
    for a, b in zip(one["settings"], two["settings"], strict=True):
      assert a["top1"] == pytest.approx(b["top1"], abs=1.1 / 24)


def test_classes_are_those_of_the_training_images():
  images = np.zeros((4, 2, 2, 3), np.uint8)
  train = ArraySource(images, np.asarray([7, 3, 7, 9]))
  test = ArraySource(images, np.asarray([3, 8, 9, 12]))
  data = labelled_set("some", train, test)
  assert data.num_classes == 3
  assert data.train_labels.tolist() == [1, 0, 1, 2]
  assert data.test_labels.tolist() == [0, -1, 2, -1]
  nothing = ArraySource(images, np.full(4, -1))
  assert labelled_set("some", train, nothing) is None


def test_label_lists_name_files(workdir, tmp_path):
  (tmp_path / "list.txt").write_text("0.png\n2.png\nc1/10.png\n")
  datasets = (f"folder:{folder(tmp_path / 'set')}",)
  config = protocol("semi_supervised", datasets, references=())
  config.evaluation.finetune.update(fractions=(0.25,), seeds=(0,))
  config.evaluation.finetune.label_lists = (str(tmp_path / "list.txt"),)
  with pytest.raises(ConfigError, match=r"25% of the labels: 1 of 3 listed files"):
    launch.run(config, "evaluate", workdir)
  (tmp_path / "list.txt").write_text("0.png\n2.png\n10.png\n")
  launch.run(config, "evaluate", workdir)
  (row,) = results(workdir, "semi_supervised")
  assert row["stamp"]["labels_used"] == 3
  assert row["stamp"]["share"].endswith("list.txt")


def test_layers_differ(workdir, own):
  settings = {}
  for layer in ("features", "embedding"):
    config = protocol("knn", own, layer=layer, references=())
    launch.run(config, "evaluate", workdir)
    (row,) = results(workdir, "knn")
    assert row["stamp"]["features"] == layer
    settings[layer] = [setting["top1"] for setting in row["settings"]]
  assert settings["features"] != settings["embedding"]


def test_the_encoder_asked_for_is_the_one_judged(workdir, arrays):
  config = small("base", arrays, selection__rule="none")
  state = restored(config, workdir).state
  for role, other in (("query", "key"), ("key", "query")):
    config.evaluation.encoder = role
    judged = open_run(config, workdir, mesh(8), configuration.WHOLE_CONFIG)
    found = jax.tree.leaves(jax.device_get(judged.subject.variables["params"]))
    same, different = (
      all(map(np.array_equal, found, jax.tree.leaves(getattr(state, f"{of}_params"))))
      for of in (role, other)
    )
    assert same
    assert not different


def test_a_run_is_judged_as_its_own_config_says_unless_another_is_named(workdir, own):
  config = configuration.load(str(ROOT / "configs" / "digits.py"))
  keys = ("evaluation.protocols", "evaluation.datasets", "views.evaluation_side")
  config.evaluation.update(protocols=("knn",), datasets=own)
  config.views.evaluation_side = 6
  request = launch.Request(overrides=Overrides(False, keys))
  launch.run(config, "evaluate", workdir, request)
  rows = json.loads((workdir / "evaluation.json").read_text())["results"]
  # The saved config has k = 1 and 5, that of the digits k = 20.
  assert [setting["k"] for setting in rows[0]["settings"]] == [1, 5]
  assert rows[0]["side"] == 6
  request = launch.Request(overrides=Overrides(False, ("moco.temperature",)))
  with pytest.raises(ConfigError, match=r"moco\.temperature cannot be overridden"):
    launch.run(config, "evaluate", workdir, request)
