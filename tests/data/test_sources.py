"""What can be read, and what is refused."""

import images
import numpy as np
import pytest
from sklearn.datasets import load_digits

from clim_jax.data import folder
from clim_jax.data.sources import load_source

OPTIONS = {
  "path": "",
  "test_path": "",
  "tfds_name": "",
  "train_split": "train",
  "test_split": "val",
  "test_fraction": 0.2,
}


def load(kind, **changes):
  return load_source(kind, **(OPTIONS | changes))


def save(path, **arrays):
  np.savez(path, **arrays)
  return str(path)


def test_digits_are_split_by_class_without_overlap():
  train, test = load("digits")
  assert (train.num_images, test.num_images) == (1437, 360)
  assert train.images.shape[1:] == (8, 8, 3)
  assert train.images.max() == 255
  shares = np.bincount(test.labels()) / (
    np.bincount(test.labels()) + np.bincount(train.labels())
  )
  np.testing.assert_allclose(shares, 0.2, atol=0.01)
  again, _ = load("digits")
  np.testing.assert_array_equal(again.images, train.images)
  # The 1797 pictures of scikit-learn, 16 levels stretched over a byte, each once.
  pixels = np.concatenate([train.images, test.images])[..., 0].reshape(1797, 64)
  original = np.rint(load_digits().data * 255 / 16).astype(np.uint8)
  np.testing.assert_array_equal(
    pixels[np.lexsort(pixels.T)], original[np.lexsort(original.T)]
  )


@pytest.mark.parametrize("shape", [(6, 4, 5), (6, 4, 5, 1), (6, 4, 5, 3)])
def test_npz_of_every_layout_becomes_rgb(shape, tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
  train, test = load("npz", path=save(tmp_path / "a.npz", image=pixels))
  assert train.images.shape == (6, 4, 5, 3)
  np.testing.assert_array_equal(
    train.images[..., 0], pixels.reshape(6, 4, 5, -1)[..., 0]
  )
  assert train.labels() is None
  assert test is None


def test_npz_takes_its_test_images_from_a_file_of_their_own(tmp_path):
  pixels = np.zeros((4, 2, 2, 3), np.uint8)
  train, test = load(
    "npz",
    path=save(tmp_path / "a.npz", image=pixels, label=np.arange(4)),
    test_path=save(tmp_path / "b.npz", image=pixels[:3], label=np.arange(3)),
  )
  assert (train.num_images, test.num_images) == (4, 3)


@pytest.mark.parametrize(
  ("arrays", "message"),
  [
    ({"image": np.zeros((2, 4, 4, 3), np.float32)}, "float32, must be uint8"),
    ({"image": np.zeros((2, 4, 4, 2), np.uint8)}, r"must be \[N, H, W\]"),
    ({"image": np.zeros((0, 4, 4, 3), np.uint8)}, r"must be \[N, H, W\]"),
    ({"pixels": np.zeros((2, 4, 4, 3), np.uint8)}, "'image' is missing"),
    (
      {"image": np.zeros((2, 4, 4, 3), np.uint8), "label": np.arange(3)},
      r"2 images but labels \(3,\)",
    ),
    (
      {"image": np.zeros((2, 4, 4, 3), np.uint8), "label": np.array([0.5, 1.0])},
      "float64, must be whole numbers",
    ),
  ],
)
def test_an_npz_that_cannot_serve_is_refused_by_name(arrays, message, tmp_path):
  path = save(tmp_path / "bad.npz", **arrays)
  with pytest.raises(ValueError, match=message) as error:
    load("npz", path=path)
  assert "bad.npz" in str(error.value)


@pytest.mark.parametrize(
  ("images_name", "labels_name"),
  [("{}_images", "{}_labels"), ("x_{}", "y_{}"), ("X_{}", "y_{}")],
)
@pytest.mark.parametrize("column", [False, True])
def test_an_npz_may_hold_its_parts_by_the_names_in_use(
  images_name, labels_name, column, tmp_path
):
  pixels, held = images.constant_images(6), {}
  for part, ids in (("train", [0, 1, 2]), ("val", [3]), ("test", [4, 5])):
    labels = np.array(ids)[:, None] if column else np.array(ids)
    held |= {images_name.format(part): pixels[ids], labels_name.format(part): labels}
  path = save(tmp_path / "a.npz", **held)
  train, test = load("npz", path=path, test_split="test")
  assert train.images[:, 0, 0, 0].tolist() == train.labels().tolist() == [0, 1, 2]
  assert test.images[:, 0, 0, 0].tolist() == test.labels().tolist() == [4, 5]
  assert test.about.part == "its own, test"
  assert load("npz", path=path, test_split="val")[1].labels().tolist() == [3]
  assert load("npz", path=path, test_split="", test_fraction=0.0)[1] is None


@pytest.mark.parametrize(
  ("wrong", "expected"),
  [
    (lambda x: x.transpose(0, 3, 1, 2), lambda x: x),
    (lambda x: x.astype(np.uint16) * 256, None),
    (lambda x: x.astype(np.int64), lambda x: x),
    (lambda x: x / np.float32(255), lambda x: x),
    (lambda x: np.concatenate([x, x[..., :1]], -1), lambda x: x),
    (lambda x: x.transpose(0, 3, 1, 2).reshape(4, -1), lambda x: x),
    (lambda x: x.astype(np.float64), lambda x: x),
    (lambda x: x > 99, lambda x: 255 * (x > 99)),
    (lambda x: np.concatenate([x[..., ::-1]] * 4, -1), None),
  ],
)
def test_the_command_in_the_refusal_of_an_npz_mends_it(wrong, expected, tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
  path = save(tmp_path / "bad.npz", x_train=wrong(pixels), y_train=np.arange(4))
  with pytest.raises(ValueError, match="write it anew: python -c") as caught:
    load("npz", path=path)
  program = str(caught.value).split('python -c "')[1].removesuffix('"')
  exec(program, {})
  mended, _ = load("npz", path=str(tmp_path / "bad-mended.npz"), test_fraction=0.0)
  assert mended.labels().tolist() == [0, 1, 2, 3]
  if expected is not None:
    np.testing.assert_array_equal(mended.images, expected(pixels))


@pytest.mark.parametrize(
  ("wrong", "expected"),
  [
    (np.eye(4), [0, 1, 2, 3]),
    (np.eye(4, dtype=int), [0, 1, 2, 3]),
    (np.arange(4.0), [0, 1, 2, 3]),
    (np.arange(4) > 1, [0, 0, 1, 1]),
    (np.arange(4) - 3, [0, 1, 2, 3]),
  ],
)
def test_the_command_in_the_refusal_of_labels_mends_them(wrong, expected, tmp_path):
  path = save(tmp_path / "bad.npz", x=images.constant_images(4), y=wrong)
  with pytest.raises(ValueError, match="write it anew: python -c") as caught:
    load("npz", path=path)
  exec(str(caught.value).split('python -c "')[1].removesuffix('"'), {})
  mended, _ = load("npz", path=str(tmp_path / "bad-mended.npz"), test_fraction=0.0)
  assert mended.labels().tolist() == expected


def test_labels_may_be_names_and_are_numbered_over_all_parts(tmp_path):
  pixels = images.constant_images(3)
  path = save(
    tmp_path / "a.npz",
    x_train=pixels,
    y_train=np.array(["dog", "cat", "eel"]),
    x_test=pixels[:1],
    y_test=np.array([[b"eel"]]),
  )
  train, test = load("npz", path=path, test_split="test")
  assert train.class_names == test.class_names == ("cat", "dog", "eel")
  assert (train.labels().tolist(), test.labels().tolist()) == ([1, 0, 2], [2])
  other = save(tmp_path / "b.npz", x=pixels[:2], y=np.array(["cat", "dog"]))
  with pytest.raises(ValueError, match="name other classes"):
    load("npz", path=path, test_path=other)


def test_minus_one_is_no_label(tmp_path):
  labels = np.array([-1, 0, 1, 0, 1, -1])
  path = save(tmp_path / "a.npz", x=images.constant_images(6), y=labels)
  train, _ = load("npz", path=path, test_fraction=0.0)
  assert train.labels().tolist() == labels.tolist()


@pytest.mark.parametrize(
  ("arrays", "message"),
  [
    ({"x": images.constant_images(4), "y": np.array(["a", 1, None, 2], object)}, "y"),
    ({"x": np.array([np.zeros((2, 2)), np.zeros((3, 3))], object)}, "x"),
  ],
)
def test_python_objects_are_never_loaded(arrays, message, tmp_path):
  path = save(tmp_path / "bad.npz", **arrays)
  with pytest.raises(
    ValueError, match=f"{message} holds Python objects, which are not"
  ):
    load("npz", path=path)


@pytest.mark.parametrize(
  ("shape", "message"),
  [
    ((32, 32, 3, 20), r"number last.*x.transpose\(3, 0, 1, 2\)"),
    ((28, 28, 1, 20), r"number last"),
    ((20, 3, 32, 32), r"channels first"),
    ((32, 32, 3), r"look like one image.*x\[None\]"),
    ((20, 784), r"x.reshape\(-1, 28, 28\)"),
    ((20, 3072), r"CIFAR.*x.reshape\(-1, 3, 32, 32\)"),
  ],
)
def test_axes_in_another_order_are_recognised(shape, message, tmp_path):
  path = save(tmp_path / "bad.npz", x=np.zeros(shape, np.uint8))
  with pytest.raises(ValueError, match=message):
    load("npz", path=path)


def test_values_that_are_not_finite_are_refused(tmp_path):
  pixels = images.constant_images(2) / 255.0
  pixels[1, 0, 0, 0] = np.nan
  with pytest.raises(ValueError, match="some are not finite"):
    load("npz", path=save(tmp_path / "bad.npz", x=pixels))


def test_a_single_array_is_refused_with_the_command_that_mends_it(tmp_path):
  np.save(tmp_path / "a.npy", images.constant_images(2))
  with pytest.raises(ValueError, match="holds one array") as caught:
    load("npz", path=str(tmp_path / "a.npy"))
  exec(str(caught.value).split('python -c "')[1].removesuffix('"'), {})
  assert load("npz", path=str(tmp_path / "a.npz"))[0].num_images == 2


def test_digits_do_not_take_a_path_that_would_be_passed_over(tmp_path):
  with pytest.raises(ValueError, match=r"set data.source=folder, npz or tfds, or take"):
    load("digits", path=str(tmp_path))


def test_a_missing_npz_is_named():
  with pytest.raises(FileNotFoundError, match=r"nowhere\.npz.*set data\.path"):
    load("npz", path="nowhere.npz")


def test_a_file_that_is_no_npz_is_named(tmp_path):
  whole = save(tmp_path / "whole.npz", image=np.zeros((9, 9, 9), np.uint8))
  with open(whole, "rb") as file:
    half = file.read()[:500]
  (tmp_path / "half.npz").write_bytes(half)
  with pytest.raises(ValueError, match=r"half\.npz is not a whole"):
    load("npz", path=str(tmp_path / "half.npz"))


@pytest.mark.parametrize(
  "labels",
  [
    np.zeros(10, int),
    np.array([0] * 9 + [5]),
    np.repeat(np.arange(5), 2),  # more classes than the 2 images held out
  ],
)
def test_any_class_sizes_can_be_held_out_from(labels, tmp_path):
  pixels = images.constant_images(10)
  train, test = load("npz", path=save(tmp_path / "a.npz", image=pixels, label=labels))
  together = np.concatenate([train.images, test.images])[:, 0, 0, 0]
  assert sorted(together) == list(range(10))
  assert test.num_images == 2


def test_nothing_is_held_out_of_images_without_a_label(tmp_path):
  labels = np.full(10, -1)  # what TFDS gives for them
  path = save(tmp_path / "a.npz", image=images.constant_images(10), label=labels)
  train, test = load("npz", path=path)
  assert train.num_images == 10
  assert test is None


def test_an_unknown_source_names_the_known_ones():
  with pytest.raises(ValueError, match="digits, npz, folder, tfds"):
    load("disk")


def fill(root, names):
  for name in names:
    images.write_png(root / name, np.zeros((2, 2, 3), np.uint8))


def test_a_folder_takes_labels_from_its_class_folders_in_sorted_order(tmp_path):
  fill(tmp_path, ["train/b/1.png", "train/a/2.PNG", "train/a/1.jpg", "val/b/1.jpeg"])
  (tmp_path / "train" / "a" / "notes.txt").write_text("no image")
  (tmp_path / "train" / "empty").mkdir()
  train, test = load("folder", path=str(tmp_path))
  assert [train.name(i).rsplit("/", 2)[-2:] for i in range(3)] == [
    ["a", "1.jpg"],
    ["a", "2.PNG"],
    ["b", "1.png"],
  ]
  assert train.labels().tolist() == [0, 0, 1]
  assert test.labels().tolist() == [1]


def test_a_folder_without_a_test_split_holds_some_out(tmp_path):
  fill(tmp_path, [f"train/{c}/{i}.png" for c in "ab" for i in range(5)])
  train, test = load("folder", path=str(tmp_path))
  assert (train.num_images, test.num_images) == (8, 2)
  assert test.labels().tolist() == [0, 1]
  names = {test.name(i) for i in range(2)} | {train.name(i) for i in range(8)}
  assert len(names) == 10


@pytest.mark.parametrize("root", [".", "train"])
def test_a_flat_folder_has_no_labels(root, tmp_path):
  fill(tmp_path, [f"{root}/2.png", f"{root}/1.png"])
  train, test = load("folder", path=str(tmp_path))
  assert train.num_images == 2
  assert train.labels() is None
  assert test is None


def test_an_empty_folder_is_refused(tmp_path):
  (tmp_path / "train" / "a").mkdir(parents=True)
  with pytest.raises(FileNotFoundError, match="no image in"):
    load("folder", path=str(tmp_path))


def test_a_missing_folder_is_refused():
  with pytest.raises(FileNotFoundError, match="does not exist"):
    load("folder", path="/nowhere/at/all")


def test_a_test_class_that_training_lacks_is_refused(tmp_path):
  fill(tmp_path, ["train/a/1.png", "val/b/1.png"])
  with pytest.raises(ValueError, match=r"classes \['b'\]"):
    load("folder", path=str(tmp_path))


def test_listing_joins_paths_below_the_root(tmp_path):
  fill(tmp_path, ["a/1.png"])
  listing = folder.list_images(str(tmp_path))
  assert listing.paths == [str(tmp_path / "a" / "1.png")]
  assert listing.classes == ["a"]
