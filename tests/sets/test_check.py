"""What looking through a set finds, and what it writes for `data.exclude`."""

import json
import shutil

import images
import numpy as np
import pytest
from PIL import Image, ImageEnhance

import clim_jax
from clim_jax import launch
from clim_jax.data.exclusion import read_exclusion
from clim_jax.data.source import BadImageError
from clim_jax.experiment import configuration
from clim_jax.experiment.error import ConfigError


def photograph(seed, height=48, width=64):
  """Smooth, as photographs are: large patches and some noise."""
  rng = np.random.default_rng(seed)
  patches = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
  smooth = np.asarray(patches.resize((width, height), Image.Resampling.BICUBIC), int)
  noisy = smooth + rng.integers(-5, 6, smooth.shape)
  return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  """Two classes, and one of each thing that can be wrong."""
  root = tmp_path_factory.mktemp("set")
  for seed in range(12):
    part = "train" if seed < 8 else "test"
    path = root / part / "ab"[seed % 2] / f"{seed:02}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    photograph(seed).save(path, quality=95)
  train, test = root / "train", root / "test"
  shutil.copy(train / "a/00.jpg", train / "a/copy of file.jpg")
  Image.open(train / "b/01.jpg").save(train / "b/copy of pixels.png")
  shutil.copy(train / "a/02.jpg", train / "b/in two classes.jpg")
  shutil.copy(test / "a/08.jpg", train / "a/of test.jpg")
  half = Image.open(train / "b/03.jpg").resize((32, 24), Image.Resampling.BICUBIC)
  half.save(train / "b/smaller.jpg", quality=60)
  brighter = ImageEnhance.Brightness(Image.open(test / "b/09.jpg")).enhance(1.1)
  brighter.save(train / "b/brighter.jpg")
  whole = (train / "a/04.jpg").read_bytes()
  (train / "a/cut.jpg").write_bytes(whole[: len(whole) // 2])
  (train / "a/empty.png").touch()
  photograph(20).convert("CMYK").save(train / "a/cmyk.jpg")
  photograph(21).convert("L").save(train / "a/grey.png")
  photograph(22).save(train / "a/webp inside.jpg", format="WEBP")
  for height in (20, 24):
    blank = Image.new("RGB", (20, height), "white")
    blank.save(train / f"b/blank {height}.png")
  return root


@pytest.fixture(scope="module")
def found(root, tmp_path_factory):
  return clim_jax.check(root, out=tmp_path_factory.mktemp("run"))


def test_counts_are_by_part_class_and_format(found):
  train = found["parts"]["train"]
  assert train["images"] == 21
  assert train["classes"] == {"a": 11, "b": 10}
  assert train["formats"] == {"JPEG": 14, "PNG": 4, "WEBP": 1}
  assert train["broken"] == 2
  assert train["grey"] == 3  # of which two are blank
  assert train["modes"]["CMYK"] == 1
  assert train["height"] == {"least": 20, "median": 48, "most": 48}
  assert found["parts"]["test"]["classes"] == {"a": 2, "b": 2}


def test_broken_files_are_named_with_what_training_would_say(found):
  assert set(found["broken"]) == {"train/a/cut.jpg", "train/a/empty.png"}
  assert all(found["broken"].values())


def test_copies_are_told_by_their_pixels_and_files(found):
  groups = {frozenset(g["names"]): g["same_files"] for g in found["copies"]}
  assert groups == {
    frozenset({"train/a/00.jpg", "train/a/copy of file.jpg"}): True,
    frozenset({"train/b/01.jpg", "train/b/copy of pixels.png"}): False,
    frozenset({"train/a/02.jpg", "train/b/in two classes.jpg"}): True,
    frozenset({"train/a/of test.jpg", "test/a/08.jpg"}): True,
  }
  assert found["copies_of_two_classes"] == [
    ["train/a/02.jpg", "train/b/in two classes.jpg"]
  ]
  assert found["in_both_parts"] == [["train/a/of test.jpg", "test/a/08.jpg"]]


def test_near_copies_are_those_that_look_the_same_and_no_blank_ones(found):
  pairs = {frozenset(pair["names"]) for pair in found["near"]}
  assert pairs == {
    frozenset({"train/b/03.jpg", "train/b/smaller.jpg"}),
    frozenset({"train/b/brighter.jpg", "test/b/09.jpg"}),
  }
  assert found["near_in_both_parts"] == [["train/b/brighter.jpg", "test/b/09.jpg"]]


def test_a_file_with_another_format_than_its_name_says_is_told(found):
  assert found["called_otherwise"] == {"train/a/webp inside.jpg": "WEBP"}


def config_of(root, **changes):
  config = configuration.load("smoke")
  config.data.update(source="folder", path=str(root), **changes)
  return config


def test_broken_images_alone_end_it_with_an_error_after_the_list_is_written(
  root, tmp_path
):
  with pytest.raises(BadImageError, match=r"2 images are broken: train/a/cut.jpg"):
    launch.run(config_of(root), "check", tmp_path)
  out = tmp_path / "check/leave_out.txt"
  names = set(read_exclusion(str(out), "").names.values())
  assert names == {
    "train/a/cut.jpg",
    "train/a/empty.png",
    "train/a/copy of file.jpg",
    "train/b/copy of pixels.png",
    "train/b/in two classes.jpg",
    "train/a/of test.jpg",  # and not the test image
  }
  text = out.read_text()
  assert "# train/b/brighter.jpg\n" in text
  assert "## nearly test/b/09.jpg" in text
  # With the list there is nothing left to complain of.
  launch.run(config_of(root, exclude=str(out)), "check", tmp_path / "again")
  report = json.loads((tmp_path / "again/check/report.json").read_text())
  assert report["leave_out"] == 0
  assert report["parts"]["train"]["images"] == 15
  assert any("left out by data.exclude" in text for text in report["told"])


def test_photographs_taken_sideways_are_near_those_turned_upright(tmp_path):
  exif = Image.Exif()
  exif[274] = 6
  stored = photograph(30)
  stored.save(tmp_path / "sideways.jpg", exif=exif, quality=95)
  upright = stored.transpose(Image.Transpose.ROTATE_270)
  upright.save(tmp_path / "upright.jpg", quality=90)
  found = clim_jax.check(tmp_path, out=tmp_path / "out")
  assert [pair["names"] for pair in found["near"]] == [["sideways.jpg", "upright.jpg"]]
  part = found["parts"]["train"]
  assert (part["height"]["least"], part["width"]["most"]) == (64, 48)


def test_arrays_are_checked_by_part_and_number(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
  pixels[4] = pixels[1]
  labels = np.array([0, 1, 0, 1, 0, 1])
  np.savez(
    tmp_path / "a.npz", x_train=pixels, y_train=labels, x_test=pixels[:1], y_test=[0]
  )
  found = clim_jax.check(tmp_path / "a.npz", out=tmp_path / "out")
  assert found["copies"] == [
    {"names": ["train[0]", "test[0]"], "same_files": True},
    {"names": ["train[1]", "train[4]"], "same_files": True},
  ]
  assert found["copies_of_two_classes"] == [["train[1]", "train[4]"]]
  assert found["parts"]["train"]["classes"] == {"0": 3, "1": 3}


def test_a_single_image_and_images_without_labels_can_be_checked(tmp_path):
  images.write_png(tmp_path / "one.png", np.zeros((8, 8, 3), np.uint8))
  found = clim_jax.check(tmp_path, out=tmp_path / "out")
  assert found["parts"]["train"]["classes"] == {}
  assert found["near"] == found["copies"] == []


def test_an_array_is_refused_with_what_to_give():
  with pytest.raises(ConfigError, match="give its path"):
    clim_jax.check(np.zeros((4, 8, 8, 3), np.uint8))
