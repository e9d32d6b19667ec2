"""The page of real small runs: what it says, and that it needs nothing else."""

import base64
import json
import re

import numpy as np
import pytest
from etils import epath
from rich.console import Console
from variants import copied, killed_at_once, with_data

from clim_jax.experiment import configuration
from clim_jax.experiment.error import ConfigError
from clim_jax.report import page
from clim_jax.report.page import PAGE, write_report


def write(workdir, **changes):
  config = configuration.load("base")
  config.report.update(changes)
  asked = configuration.Overrides(False, tuple(f"report.{key}" for key in changes))
  return write_report(config, epath.Path(workdir), asked).read_text()


def sections(page):
  return set(re.findall(r'<section id="(\w+)"', page))


def test_a_run_ends_with_a_page_that_has_every_part(clim_run):
  page = (clim_run / PAGE).read_text()
  assert sections(page) == {
    *("figures", "curves", "selection", "map", "alike", "retrieval", "mistakes", "run")
  }
  assert "The run is finished: 2 of 2 epochs, 4 steps." in page
  (result,) = (
    r
    for r in json.loads((clim_run / "evaluation.json").read_text())["results"]
    if r["encoder"] == "clim"
  )
  assert f"{100 * result['top1']:.1f}" in page
  assert "as the loss saw it" in page
  assert "rejected: in another cluster" in page


def test_a_page_asks_for_nothing_else(clim_run):
  page = (clim_run / PAGE).read_text()
  assert not re.findall(r"https?://|//cdn|@import|<script src|<link rel=.style", page)
  sources = re.findall(r"(?:src|href)=\"([^\"]*)\"|url\(([^)]{0,30})", page)
  assert sources
  assert all(re.match(r"#|data:", one or other) for one, other in sources)


def test_the_data_of_the_map_are_whole(clim_run):
  page = (clim_run / PAGE).read_text()
  text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1]
  found = json.loads(text)["map"]
  tiles = np.frombuffer(base64.b64decode(found["tiles"]), "<u4")
  assert len(tiles) == found["count"] == 38 + 25
  assert [colour["name"] for colour in found["colours"]] == [
    *("label", "cluster", "error", "part")
  ]


def test_of_many_images_a_sample_is_shown_and_said(clim_run, tmp_path):
  page = write(copied(clim_run, tmp_path), images=12)
  assert "12 of 38 training images and 4 of 25 test images" in page


def test_t_sne_is_a_second_map(clim_run, tmp_path):
  assert '"name": "t-SNE"' not in (clim_run / PAGE).read_text()
  assert '"name": "t-SNE"' in write(copied(clim_run, tmp_path), tsne=True)


def test_a_run_without_labels_or_selection_has_a_page(plain_run, tmp_path):
  page = write(with_data(plain_run, tmp_path, labels="none"))
  assert sections(page) == {"figures", "curves", "selection", "map", "alike", "run"}
  assert "<code>selection.rule</code> is none" in page
  assert "It has not been evaluated" in page


def test_a_run_killed_before_its_first_checkpoint_has_a_page(clim_run, tmp_path):
  page = write(killed_at_once(clim_run, tmp_path))
  assert sections(page) == {"figures", "curves", "images", "run"}
  assert "The run has stopped at 0.5 of 2 epochs, 1 steps." in page
  assert "there is no checkpoint yet" in page


def test_images_that_have_moved_are_said(clim_run, tmp_path):
  page = write(with_data(clim_run, tmp_path, path="/nowhere.npz"))
  assert "Nothing can be shown of images" in page
  assert "/nowhere.npz" in page


def test_markup_in_names_is_text(clim_run, tmp_path):
  run = copied(clim_run, tmp_path)
  config = json.loads((run / "config.json").read_text())
  config["name"] = "<script>alert(1)</script>"
  (run / "config.json").write_text(json.dumps(config))
  assert "<script>alert" not in write(run)


@pytest.mark.parametrize("images", [1, 20_001])
def test_a_number_of_images_that_cannot_be_shown_is_refused(images, clim_run):
  with pytest.raises(ConfigError, match=f"report.images.*{images}"):
    write(clim_run, images=images)


def test_a_folder_without_a_run_is_refused(tmp_path):
  with pytest.raises(ConfigError, match="holds no run"):
    write(tmp_path)


def test_a_report_that_fails_is_one_sentence(clim_run, monkeypatch, capsys):
  def fail(*_, **__):
    raise RuntimeError("no\nluck")

  monkeypatch.setattr(page, "write_report", fail)
  config = configuration.load("base")
  page.try_report(config, clim_run, Console(width=200), None)
  assert "no report (RuntimeError: no); the run is whole" in capsys.readouterr().out
