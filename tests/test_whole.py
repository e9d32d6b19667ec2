"""A file is there whole or not at all."""

import pytest
from etils import epath

from clim_jax.whole import written_whole


def write_half(path):
  with written_whole(path) as beside:
    beside.write_text("half")
    raise OSError("disk full")


def test_a_file_takes_its_place_when_all_of_it_is_written(tmp_path):
  path = epath.Path(tmp_path) / "file.json"
  path.write_text("old")
  with written_whole(path) as beside:
    beside.write_text("half")
    assert path.read_text() == "old"
    beside.write_text("new")
  assert path.read_text() == "new"
  assert [found.name for found in tmp_path.iterdir()] == ["file.json"]


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path):
  path = epath.Path(tmp_path) / "file.json"
  path.write_text("old")
  with pytest.raises(OSError, match="full"):
    write_half(path)
  assert path.read_text() == "old"
  assert [found.name for found in tmp_path.iterdir()] == ["file.json"]
