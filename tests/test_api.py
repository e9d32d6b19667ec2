"""The public names, as a Python program uses them."""

import inspect
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image
from small_run import CLASSES, IMAGES, SIDE, small

import clim_jax
from clim_jax import launch
from clim_jax.experiment.configuration import Overrides
from clim_jax.selection import center_wise

ROOT = pathlib.Path(__file__).parent.parent


def pixels(images=IMAGES, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (images, SIDE, SIDE, 3), dtype=np.uint8)


def tiny(**changes):
  return small("base", "none.npz", selection__rule="none", **changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run on an array with labels, by all the ways to set a key."""
  return clim_jax.pretrain(
    pixels(),
    labels=np.arange(IMAGES) % CLASSES,
    out=tmp_path_factory.mktemp("runs") / "first",
    config=tiny(),
    epochs=1,
    evaluation__knn__neighbours=3,
  )


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  folder = tmp_path_factory.mktemp("photos")
  for number, image in enumerate(pixels(9)):
    Image.fromarray(image).save(folder / f"{number}.png")
  return folder


def test_import_brings_its_names_and_nothing_heavy():
  program = (
    "import sys, clim_jax; print(*dir(clim_jax));"
    "print([m for m in ('jax', 'numpy', 'tensorflow') if m in sys.modules])"
  )
  answer = subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, text=True)
  names, heavy = answer.splitlines()
  assert names.split() == sorted(clim_jax.__all__)
  assert len(clim_jax.__all__) == 13
  assert heavy == "[]"


@pytest.mark.parametrize("name", sorted({*clim_jax.__all__} - {"__version__"}))
def test_every_name_is_there_with_an_example(name):
  found = getattr(clim_jax, name)
  assert callable(found)
  if name not in ("ConfigError", "center_wise_positives"):
    assert f"clim_jax.{name}(" in inspect.getdoc(found)


def test_rooms_with_the_name_of_a_function_leave_it_a_function():
  import clim_jax.evaluate.task
  import clim_jax.pretrain.loop
  import clim_jax.report.page

  assert inspect.isfunction(clim_jax.evaluate)
  assert inspect.isfunction(clim_jax.pretrain)
  assert inspect.isfunction(clim_jax.report)
  assert inspect.isfunction(clim_jax.config)
  with pytest.raises(AttributeError, match="no attribute 'train'"):
    clim_jax.train  # noqa: B018


def test_the_selection_is_that_of_the_room():
  assert clim_jax.center_wise_positives is center_wise.center_wise_positives
  assert "clim_jax.center_wise_positives(" in inspect.getdoc(
    clim_jax.center_wise_positives
  )


def test_a_run_keeps_its_array_and_what_was_said(run):
  saved = json.loads((run / "config.json").read_text())
  assert saved["epochs"] == 1
  assert saved["evaluation"]["knn"]["neighbours"] == [3]
  assert saved["data"]["source"] == "npz"
  assert pathlib.Path(saved["data"]["path"]) == (run / "images.npz").resolve()
  assert (np.load(run / "images.npz")["image"] == pixels()).all()
  assert (run / "metrics.jsonl").exists()


def test_a_page_of_a_run_is_made(run):
  page = clim_jax.report(run, report__images=5)
  assert page == run / "report" / "index.html"
  assert f"5 of {IMAGES} training images" in page.read_text()


def test_the_same_call_goes_on_and_other_images_are_refused(run):
  labels = np.arange(IMAGES) % CLASSES
  settings = {"config": tiny(), "epochs": 1, "out": run}
  before = (run / "metrics.jsonl").read_text()
  assert clim_jax.pretrain(pixels(), labels=labels, **settings) == run
  assert (run / "metrics.jsonl").read_text() == before
  for images, its_labels in [(pixels(seed=1), labels), (pixels(), None)]:
    with pytest.raises(clim_jax.ConfigError, match="other images; give another out"):
      clim_jax.pretrain(images, labels=its_labels, **settings)


def test_a_run_is_judged_by_what_is_asked_for(run):
  found = clim_jax.evaluate(
    run,
    evaluation__protocols="knn",
    evaluation__name="mine",
    evaluation__references=(),
    data__test_fraction=0.3,
  )
  assert {result["protocol"] for result in found["results"]} == {"knn"}
  assert found == json.loads((run / "evaluation-mine.json").read_text())


def test_without_labels_there_is_nothing_to_judge(run, tmp_path):
  np.savez(tmp_path / "plain.npz", image=pixels())
  plain = str(tmp_path / "plain.npz")
  assert clim_jax.evaluate(run, evaluation__name="none", data__path=plain) == {}


def test_features_are_those_of_the_embed_mode_for_arrays_and_folders(
  run, photos, tmp_path
):
  encoder = clim_jax.load(run)
  found = encoder.embed(photos)
  request = launch.Request(
    str(photos), str(tmp_path / "out.npz"), overrides=Overrides(False, ())
  )
  launch.run(clim_jax.config(), "embed", run, request)
  expected = np.load(tmp_path / "out.npz")
  assert found.shape == (9, encoder.dim)
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found, expected["features"])
  assert encoder.files(photos) == [str(photos / name) for name in expected["files"]]
  # PNG keeps every pixel; the two pipelines round crops by less than a grey level.
  np.testing.assert_allclose(encoder.embed(pixels(9)), found, rtol=0.05, atol=0.05)
  np.testing.assert_array_equal(
    clim_jax.embed(run, pixels(9)), encoder.embed(pixels(9))
  )
  assert not np.allclose(found[0], found[1])


def test_grey_images_and_arrays_of_jax_are_images_too(run):
  encoder = clim_jax.load(run, evaluation__encoder="key")
  grey = pixels(4)[..., 0]
  colour = np.broadcast_to(grey[..., None], (*grey.shape, 3))
  np.testing.assert_array_equal(encoder.embed(grey), encoder.embed(colour))
  np.testing.assert_array_equal(
    encoder.embed(jax.numpy.asarray(grey)), encoder.embed(grey)
  )


def test_a_bad_file_has_no_features(run, photos, tmp_path):
  for name in ("0.png", "1.png"):
    (tmp_path / name).write_bytes((photos / name).read_bytes())
  (tmp_path / "2.png").write_bytes(b"no image")
  with pytest.raises(ValueError, match=r"2\.png"):
    clim_jax.load(run).embed(tmp_path)
  found = clim_jax.load(run, data__on_bad_image="skip").embed(tmp_path)
  assert np.isnan(found).all(axis=1).tolist() == [False, False, True]


def test_images_of_a_list_are_left_out_of_a_folder(run, photos, tmp_path):
  (tmp_path / "list.txt").write_text("0.png\n5.png\n")
  encoder = clim_jax.load(run, data__exclude=tmp_path / "list.txt")
  kept = [row for row in range(9) if row not in (0, 5)]
  assert encoder.files(photos) == [str(photos / f"{row}.png") for row in kept]
  every = clim_jax.load(run).embed(photos)
  np.testing.assert_array_equal(encoder.embed(photos), every[kept])


def test_a_folder_is_pretrained_on(tmp_path):
  folder = tmp_path / "photos"
  folder.mkdir()
  for number, image in enumerate(pixels(16)):
    Image.fromarray(image).save(folder / f"{number}.png")
  # As many steps as the other run's, so that the program is the same.
  run = clim_jax.pretrain(str(folder), config=tiny(), out=tmp_path / "run", epochs=2)
  saved = json.loads((run / "config.json").read_text())
  assert (saved["data"]["source"], saved["data"]["path"]) == ("folder", str(folder))


def test_an_export_is_written(run, tmp_path):
  path = clim_jax.export(run, "torchvision", tmp_path / "net.safetensors")
  assert path.exists()
  with pytest.raises(clim_jax.ConfigError, match="'keras' is unknown"):
    clim_jax.export(run, "keras", tmp_path / "x")


def test_configs_come_by_name_with_keys_set():
  config = clim_jax.config("digits", moco__temperature=1, views__sides=[24])
  assert (config.name, config.moco.temperature) == ("digits", 1.0)
  assert config.views.sides == (24,)
  assert "evaluate/knn" in clim_jax.config_names()


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda run: clim_jax.pretrain("no/such"), "neither a folder nor a .npz file"),
    (lambda run: clim_jax.pretrain(pixels() / 255), "float64, must be uint8"),
    (lambda run: clim_jax.pretrain(pixels()[0]), "look like one image"),
    (lambda run: clim_jax.pretrain(pixels(), labels=[1]), "an integer for each"),
    (lambda run: clim_jax.pretrain(labels=[1]), "labels go with an array"),
    (lambda run: clim_jax.pretrain(pixels(), temperature=1), "moco.temperature"),
    (lambda run: clim_jax.pretrain(pixels(), config="digit"), "Did you mean digits"),
    (lambda run: clim_jax.pretrain(pixels(), moco__symmetric=1), "True or False"),
    (lambda run: clim_jax.load("no/such"), "holds no run"),
    (lambda run: clim_jax.load(run, moco__temperature=1.0), "cannot be overridden"),
    (lambda run: clim_jax.load(run, evaluation__step=77), "step"),
    (lambda run: clim_jax.load(run, evaluation__batch_size=9), "divide by 8 devices"),
    (lambda run: clim_jax.embed(run, "no/such"), "'no/such' does not exist$"),
    (lambda run: clim_jax.pretrain(config="imagenette"), "data.path= cannot be"),
    (lambda run: clim_jax.embed(run, pixels()[..., :2]), r"must be \[N, H, W\]"),
    (lambda run: clim_jax.evaluate(run, config="evaluate/nn"), "mean evaluate/knn"),
    (lambda run: clim_jax.config(epoch=1), "nearest is epochs"),
  ],
)
def test_what_cannot_work_is_said(call, message, run, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(clim_jax.ConfigError, match=message):
    call(run)
  assert not list(tmp_path.iterdir())
