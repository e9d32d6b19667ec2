"""Folders as people have them: what is seen, what becomes a class, what is told."""

import importlib.util
import os
import shutil

import images
import numpy as np
import pytest
from scipy.io import savemat

from clim_jax.data.sources import folder_source, load_source

PIXELS = np.zeros((8, 8, 3), np.uint8)


def fill(root, *names):
  for name in names:
    images.write_png(root / name, PIXELS)


def load(root, **changes):
  options = {
    "path": str(root),
    "test_path": "",
    "tfds_name": "",
    "train_split": "train",
  }
  options |= {"test_split": "val", "test_fraction": 0.0}
  return load_source("folder", **(options | changes))


def names(source, root):
  paths = [source.name(i) for i in range(source.num_images)]
  return [path.removeprefix(f"{root}/") for path in paths]


def test_images_at_any_depth_have_the_first_folder_as_class(tmp_path):
  fill(tmp_path, "train/a/1.png", "train/b/images/1.png", "train/b/x/y/2.png")
  fill(tmp_path, "val/b/images/3.png")
  train, test = load(tmp_path)
  assert names(train, tmp_path) == [
    "train/a/1.png",
    "train/b/images/1.png",
    "train/b/x/y/2.png",
  ]
  assert train.labels().tolist() == [0, 1, 1]
  assert test.labels().tolist() == [1]


def test_images_beside_the_folders_have_no_label_and_are_not_held_out(
  tmp_path,
):
  fill(tmp_path, "0.png", "z.png", *(f"{y}/05/{i}.png" for y in "ab" for i in range(5)))
  train, test = load(tmp_path, test_fraction=0.2)
  assert sorted(train.labels().tolist()) == [-1, -1, *[0] * 4, *[1] * 4]
  assert test.labels().tolist() == [0, 1]
  assert sum("2 of the 12 images lie beside" in fact for fact in train.about.facts) == 1
  everything, paths = folder_source(str(tmp_path))
  assert everything.num_images == len(paths) == 12


def test_what_is_taken_for_a_class_is_said_in_one_line(tmp_path):
  fill(tmp_path, "train/cam1/1.png", "train/cam2/1.png")
  facts = load(tmp_path)[0].about.facts
  assert len(facts) == 1
  assert "the 2 folders in" in facts[0]
  assert (
    "taken for classes: cam1, cam2; if they are none, set data.labels=none"
    in (facts[0])
  )


def test_without_labels_nothing_is_a_class_and_nothing_is_held_out(tmp_path):
  fill(tmp_path, *(f"train/{c}/{i}.png" for c in "ab" for i in range(5)))
  fill(tmp_path, "val/other/1.png")
  train, test = load(tmp_path, labels="none", test_fraction=0.2)
  assert train.num_images == 10
  assert train.labels() is None
  assert test is None
  assert train.about.facts == ()


def test_what_systems_leave_behind_is_passed_over(tmp_path):
  fill(tmp_path, "train/a/1.png", "train/b/1.png")
  fill(tmp_path, "train/.ipynb_checkpoints/1.png", "train/a/._1.png")
  fill(tmp_path, "train/__MACOSX/a/1.png", "train/a/@eaDir/1.png")
  (tmp_path / "train/Thumbs.db").touch()
  (tmp_path / "train/b/.DS_Store").touch()
  train, _ = load(tmp_path)
  assert names(train, tmp_path) == ["train/a/1.png", "train/b/1.png"]
  assert not any("passed over" in fact for fact in train.about.facts)


def test_other_files_are_counted_by_extension(tmp_path):
  fill(tmp_path, "train/a/1.png")
  for name in ("1.raw", "2.RAW", "notes.txt", "noext"):
    (tmp_path / "train/a" / name).touch()
  told = [fact for fact in load(tmp_path)[0].about.facts if "passed over" in fact]
  assert len(told) == 1
  assert told[0].endswith("2 files .raw, 1 file .txt, 1 file without extension")
  assert folder_source(str(tmp_path))[0].about.facts[0].startswith("passed over")


def test_a_folder_of_other_files_alone_says_which(tmp_path):
  (tmp_path / "a.raw").touch()
  with pytest.raises(FileNotFoundError, match=r"only 1 file \.raw"):
    load(tmp_path)


def test_a_folder_may_be_named_like_an_image_and_link_to_one_around_it(tmp_path):
  fill(tmp_path, "train/a.png/1.png", "train/b/1.png")
  (tmp_path / "train/b/again").symlink_to(tmp_path / "train")
  (tmp_path / "train/b/linked").symlink_to(tmp_path / "train/a.png")
  train, _ = load(tmp_path)
  assert names(train, tmp_path) == [
    "train/a.png/1.png",
    "train/b/1.png",
    "train/b/linked/1.png",
  ]


@pytest.mark.parametrize("name", ["Test", "validation", "valid", "VAL", "dev", "eval"])
def test_a_test_part_under_another_usual_name_is_found_and_said(name, tmp_path):
  fill(tmp_path, "Train/a/1.png", f"{name}/a/1.png")
  train, test = load(tmp_path, test_split="test")
  assert names(train, tmp_path) == ["Train/a/1.png"]
  assert test.about.part == f"its own, {name}"
  said = any("test images are those of" in fact for fact in test.about.facts)
  assert said == (name != "test")


def test_that_images_are_held_out_is_said_and_stamped(tmp_path):
  fill(tmp_path, *(f"train/{c}/{i}.png" for c in "ab" for i in range(5)))
  train, test = load(tmp_path, test_fraction=0.2)
  assert any("2 of the 10 images are held out" in fact for fact in train.about.facts)
  assert test.about.part == "20% held out of its training images"


def test_a_test_part_without_class_folders_is_told_with_the_mend(tmp_path):
  fill(tmp_path, "train/a/1.png", "train/b/1.png", "val/1.png", "val/2.png")
  _, test = load(tmp_path)
  (warning,) = test.about.warnings
  assert f"no evaluation on the 2 images of {tmp_path}/val" in warning
  assert "data.test_labels=FILE" in warning


@pytest.mark.parametrize(
  "lines",
  [
    "2.png b\n1.png a\n",
    "ImageId,PredictionString\n1,a 0 0 8 8\n2,b 1 1 2 2\n",
    "1.png\ta\t0\t0\n2.png\tb\t1\t1\n",
    "val/1.png 0\nval/2.png 1\n",
  ],
)
@pytest.mark.parametrize("inner", ["", "images/"])
def test_a_file_of_names_labels_a_flat_test_part(lines, inner, tmp_path):
  fill(tmp_path, "train/a/1.png", "train/b/1.png")
  fill(tmp_path, f"val/{inner}1.png", f"val/{inner}2.png")
  (tmp_path / "labels.txt").write_text(lines)
  _, test = load(tmp_path, test_labels=str(tmp_path / "labels.txt"))
  assert test.labels().tolist() == [0, 1]
  assert test.about.warnings == ()


def test_imagenets_own_truth_is_translated_by_the_file_beside_it(tmp_path):
  fill(tmp_path, "train/n01/1.png", "train/n02/1.png", "val/1.png", "val/2.png")
  (tmp_path / "truth.txt").write_text("1\n2\n")
  kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O")]
  rows = np.array([(1, "n02"), (2, "n01"), (3, "n99")], kinds)
  savemat(tmp_path / "meta.mat", {"synsets": rows[:, None]})
  _, test = load(tmp_path, test_labels=str(tmp_path / "truth.txt"))
  assert test.labels().tolist() == [1, 0]


@pytest.mark.parametrize(
  ("lines", "message"),
  [
    ("1.png c\n", "names a class 'c'"),
    ("9.png a\n", "labels no image"),
    ("1\n2\n3\n", "3 lines without names for 2 images"),
  ],
)
def test_a_file_of_labels_that_does_not_fit_is_refused(lines, message, tmp_path):
  fill(tmp_path, "train/a/1.png", "train/b/1.png", "val/1.png", "val/2.png")
  (tmp_path / "labels.txt").write_text(lines)
  with pytest.raises(ValueError, match=message):
    load(tmp_path, test_labels=str(tmp_path / "labels.txt"))


@pytest.mark.parametrize(
  "name",
  [
    "train/data-00000-of-00001.arrow",
    "train-00000-of-00002.parquet",
    "shard-000000.tar",
    "shard-000000.tar.gz",
    "mnist-train.tfrecord-00000-of-00001",
  ],
)
def test_packed_images_are_refused_with_the_command_that_unpacks_them(name, tmp_path):
  (tmp_path / name).parent.mkdir(exist_ok=True)
  (tmp_path / name).touch()
  with pytest.raises(FileNotFoundError, match=f"clim convert --input={tmp_path} "):
    load(tmp_path)
  with pytest.raises(
    FileNotFoundError, match=f"clim convert --input={tmp_path}/{name}"
  ):
    load(tmp_path / name)


def test_photographs_of_phones_are_read_or_told_with_what_reads_them(tmp_path):
  fill(tmp_path, "1.png")
  (tmp_path / "2.HEIC").touch()
  source, paths = folder_source(str(tmp_path))
  if importlib.util.find_spec("pillow_heif"):
    assert len(paths) == 2
  else:
    (fact,) = source.about.facts
    assert fact.endswith("1 file .heic (read after `pip install pillow-heif`)")


@pytest.mark.parametrize("inner", ["images", "imagenette2"])
def test_a_set_one_folder_further_down_is_found_and_said(inner, tmp_path):
  fill(tmp_path, *(f"{inner}/{p}/{c}/1.png" for p in ("train", "val") for c in "ab"))
  fill(tmp_path, "__MACOSX/train/a/1.png")
  (tmp_path / "labels.csv").touch()
  train, test = load(tmp_path)
  assert (train.num_images, test.num_images) == (2, 2)
  fact = f"the set is taken to be {tmp_path}/{inner}, the only one in {tmp_path}"
  assert fact in train.about.facts


def test_of_two_sets_further_down_none_is_chosen(tmp_path):
  fill(tmp_path, *(f"{s}/train/{c}/1.png" for s in ("x", "y") for c in "ab"))
  train, _ = load(tmp_path)
  assert train.num_images == 4
  assert sorted(train.class_names) == ["x", "y"]


def test_links_that_lead_round_in_a_ring_have_an_end(tmp_path):
  fill(tmp_path, "train/a/1.png", "train/b/1.png", "outside/1.png")
  (tmp_path / "train/a/x").symlink_to(tmp_path / "train/b")
  (tmp_path / "train/b/y").symlink_to(tmp_path / "train/a")
  (tmp_path / "train/a/o").symlink_to(tmp_path / "outside")
  (tmp_path / "outside/again").symlink_to(tmp_path / "outside")
  train, _ = load(tmp_path)
  assert names(train, tmp_path) == [
    "train/a/1.png",
    "train/a/o/1.png",
    "train/a/x/1.png",
    "train/b/1.png",
    "train/b/y/1.png",
    "train/b/y/o/1.png",
  ]


def test_test_images_that_are_those_of_training_are_told(tmp_path):
  fill(tmp_path, "train/a/1.png", "train/b/1.png")
  (tmp_path / "val").symlink_to(tmp_path / "train")
  _, test = load(tmp_path)
  assert any("are those of training" in text for text in test.about.warnings)
  _, test = load(tmp_path, test_split="train")
  assert any("are those of training" in text for text in test.about.warnings)


def test_parts_inside_the_classes_and_a_single_class_are_told(tmp_path):
  fill(tmp_path, *(f"{c}/{p}/1.png" for c in "ab" for p in ("train", "test")))
  train, _ = load(tmp_path)
  (warning,) = train.about.warnings
  assert "2 images lie in folders called test inside the classes" in warning
  fill(tmp_path, "one/train/a/1.png")
  (warning,) = load(tmp_path / "one")[0].about.warnings
  assert "all images are of one class, a" in warning
  assert load(tmp_path / "one", labels="none")[0].about.warnings == ()


def test_what_is_passed_over_beside_a_flat_test_part_is_told(tmp_path):
  fill(tmp_path, "train/a/1.png", "train/b/1.png", "val/1.png")
  (tmp_path / "val/2.raw").touch()
  _, test = load(tmp_path)
  assert [fact[-11:] for fact in test.about.facts] == ["1 file .raw"]


@pytest.mark.parametrize("folder", ["", "train/b"])
def test_names_that_are_not_utf8_are_refused_with_the_mend(folder, tmp_path):
  fill(tmp_path, "train/a/1.png", "train/b/1.png")
  odd = os.fsencode(tmp_path / "train/a" / folder) + b"/caf\xe9.png"
  os.makedirs(os.path.dirname(odd), exist_ok=True)
  shutil.copy(tmp_path / "train/a/1.png", odd)
  with pytest.raises(ValueError, match=r"1 names in .* not UTF-8.*caf.xe9.*convmv"):
    load(tmp_path)


def test_a_single_labelled_image_cannot_be_held_out(tmp_path):
  fill(tmp_path, "train/a/1.png")
  with pytest.raises(ValueError, match=r"set data.test_fraction=0"):
    load(tmp_path, test_fraction=0.2)
