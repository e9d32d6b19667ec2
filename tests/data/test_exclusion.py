"""Images of a list are left out everywhere, and what the list gets wrong is told."""

import images
import numpy as np
import pytest

from clim_jax.data.exclusion import leave_out, read_exclusion, to_line
from clim_jax.data.sources import folder_source, load_source

ODD = ["#1.png", " 2.png", "3 .png", '"4".png', "5\n.png", "ü.png", "a,b;c.png"]


def fill(root, *names):
  for name in names:
    images.write_png(root / name, np.zeros((8, 8, 3), np.uint8))


def load(root, exclude, kind="folder", **changes):
  options = {"path": str(root), "test_path": "", "tfds_name": ""}
  options |= {"train_split": "train", "test_split": "test", "test_fraction": 0.0}
  return load_source(kind, exclude=exclude, **(options | changes))


def a_list(folder, *lines):
  (folder / "list.txt").write_text("\n".join(lines))
  return str(folder / "list.txt")


def names(source, root):
  paths = [source.name(i) for i in range(source.num_images)]
  return [path.removeprefix(f"{root}/") for path in paths]


def test_what_a_list_names_is_left_out_of_both_parts_and_said(tmp_path):
  root = tmp_path / "set"
  fill(
    root,
    *(
      f"{part}/{c}/{i}.png"
      for part in ("train", "test")
      for c in "ab"
      for i in range(2)
    ),
  )
  file = a_list(tmp_path, "# why", "train/a/1.png", "", "./test/b/0.png", "train/z.png")
  train, test = load(root, read_exclusion(file, str(root)))
  assert names(train, root) == ["train/a/0.png", "train/b/0.png", "train/b/1.png"]
  assert train.labels().tolist() == [0, 1, 1]
  assert names(test, root) == ["test/a/0.png", "test/a/1.png", "test/b/1.png"]
  assert test.labels().tolist() == [0, 0, 1]
  said = [fact for fact in train.about.facts if "left out" in fact]
  assert said == [f"left out by data.exclude={file}: 2 of 8 images"]
  (warning,) = train.about.warnings
  assert "1 of the 3 names" in warning
  assert warning.endswith("train/z.png")


def test_pixels_are_those_of_the_images_that_stay(tmp_path):
  for level in range(4):
    images.write_png(tmp_path / f"{level}.png", np.full((8, 8, 3), level, np.uint8))
  exclusion = read_exclusion(a_list(tmp_path, "1.png"), str(tmp_path))
  source, paths = folder_source(str(tmp_path), exclude=exclusion)
  assert [path[-5:] for path in paths] == ["0.png", "2.png", "3.png"]
  for row, level in enumerate((0, 2, 3)):
    encoded = source.encoded(row).numpy()
    assert encoded == (tmp_path / f"{level}.png").read_bytes()


def test_held_out_images_are_drawn_from_those_that_stay(tmp_path):
  fill(tmp_path, *(f"{c}/{i}.png" for c in "ab" for i in range(6)))
  exclusion = read_exclusion(a_list(tmp_path, "a/0.png", "b/0.png"), str(tmp_path))
  train, test = load(tmp_path, exclusion, test_fraction=0.2)
  assert (train.num_images, test.num_images) == (8, 2)
  assert not {"a/0.png", "b/0.png"} & {*names(train, tmp_path), *names(test, tmp_path)}


@pytest.mark.parametrize("name", ODD)
def test_odd_names_can_be_written_and_read(name, tmp_path):
  fill(tmp_path, name, "other.png")
  exclusion = read_exclusion(a_list(tmp_path, to_line(name)), str(tmp_path))
  source, _ = folder_source(str(tmp_path), exclude=exclusion)
  assert names(source, tmp_path) == ["other.png"]


def test_a_list_made_elsewhere_or_by_an_editor_may_have_other_line_ends(tmp_path):
  fill(tmp_path, "0.png", "1.png")
  exclusion = read_exclusion(a_list(tmp_path, "0.png\r", "\r"), str(tmp_path))
  assert folder_source(str(tmp_path), exclude=exclusion)[0].num_images == 1


def test_names_may_be_whole_paths_and_hold_below_another_root(tmp_path):
  fill(tmp_path, "set/train/0.png", "set/train/1.png")
  file = a_list(tmp_path, "train/0.png", f"{tmp_path}/set/train/1.png")
  exclusion = read_exclusion(file, str(tmp_path / "set"))
  assert len(exclusion.names) == 2
  inner = read_exclusion(a_list(tmp_path, "train/0.png"), str(tmp_path / "set/"))
  source, paths = folder_source(f"{tmp_path}/set/train", exclude=inner)
  assert paths == [f"{tmp_path}/set/train/1.png"]
  assert source.about.warnings == ()


def test_images_of_arrays_are_named_by_part_and_number_in_their_file(tmp_path):
  pixels = images.constant_images(6)
  np.savez(tmp_path / "a.npz", x_train=pixels, x_test=pixels[:2])
  exclusion = read_exclusion(a_list(tmp_path, "train[1]", "test[0]"), "")
  train, test = load(tmp_path / "a.npz", exclusion, "npz")
  assert train.images[:, 0, 0, 0].tolist() == [0, 2, 3, 4, 5]
  assert test.images[:, 0, 0, 0].tolist() == [1]
  assert train.name(1) == "train[2]"
  assert train.subset(np.array([1, 2])).name(1) == "train[3]"


def test_a_list_that_leaves_nothing_is_refused(tmp_path):
  fill(tmp_path, "0.png")
  exclusion = read_exclusion(a_list(tmp_path, "0.png"), str(tmp_path))
  with pytest.raises(ValueError, match="leaves no image, of 1"):
    folder_source(str(tmp_path), exclude=exclusion)


def test_a_list_that_is_not_there_or_no_list_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"data\.exclude=FILE"):
    read_exclusion(str(tmp_path / "none.txt"), "")
  with pytest.raises(ValueError, match='line 2: "a is no JSON'):
    read_exclusion(a_list(tmp_path, "b", '"a'), "")


def test_without_a_list_nothing_is_touched():
  source = images.constant_source(3)
  assert leave_out(None, source) == (source,)
