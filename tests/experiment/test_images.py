"""A run goes on with the images it began with, wherever they lie."""

import gzip

import numpy as np
import pytest
from etils import epath

from clim_jax.data.source import ArraySource
from clim_jax.data.sources import folder_source
from clim_jax.experiment import images
from clim_jax.experiment.error import ConfigError


def folder(root, names):
  for name in names:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).touch()
  return folder_source(str(root))[0]


def array(value=0):
  return ArraySource(np.full((4, 2, 2, 3), value, np.uint8), None)


NAMES = ["cat/1.jpg", "cat/2.jpg", "dog/1.jpg"]


@pytest.fixture
def kept(tmp_path):
  path = epath.Path(tmp_path) / images.FILE
  images.save(folder(tmp_path / "here", NAMES), path)
  return path


def test_the_same_images_at_another_place_are_the_same(kept, tmp_path):
  images.check_same(folder(tmp_path / "there" / "deeper", NAMES), kept)


@pytest.mark.parametrize(
  ("names", "told"),
  [
    ([*NAMES, "dog/2.jpg"], r"1 added \(dog/2\.jpg\)"),
    (NAMES[1:], r"1 missing \(cat/1\.jpg\)"),
    (["cat/9.jpg", *NAMES[1:]], r"1 added \(cat/9\.jpg\) and 1 missing \(cat/1\.jpg\)"),
    ([*NAMES, *(f"dog/{n}.jpg" for n in range(2, 7))], r"5 added \(.*, …\)"),
  ],
)
def test_other_images_are_refused_by_name_and_number(names, told, kept, tmp_path):
  with pytest.raises(ConfigError, match=told):
    images.check_same(folder(tmp_path / "there", names), kept)


@pytest.mark.parametrize(
  "damage", [lambda data: data[:-9], lambda _: b"", lambda _: b"text"]
)
def test_a_damaged_list_is_refused_with_the_mend(damage, kept, tmp_path):
  kept.write_bytes(damage(kept.read_bytes()))
  with pytest.raises(ConfigError, match=r"images\.txt\.gz is damaged .*: remove it"):
    images.check_same(folder(tmp_path / "there", NAMES), kept)


def test_images_made_anew_are_refused_though_their_names_are_the_same(kept, tmp_path):
  source = folder(tmp_path / "there", NAMES)
  (tmp_path / "there" / "cat" / "2.jpg").write_bytes(b"smaller")
  with pytest.raises(ConfigError, match=r"other contents .*: 1 of .* \(cat/2\.jpg\)"):
    images.check_same(source, kept)


def test_a_list_of_an_older_version_has_names_alone(kept, tmp_path):
  kept.write_bytes(gzip.compress("".join(f"{name}\n" for name in NAMES).encode()))
  images.check_same(folder(tmp_path / "there", NAMES), kept)


def test_an_array_is_compared_by_its_pixels(tmp_path):
  path = epath.Path(tmp_path) / images.FILE
  images.save(array(), path)
  images.check_same(array(), path)
  with pytest.raises(ConfigError, match="not the images that the run began with"):
    images.check_same(array(1), path)
