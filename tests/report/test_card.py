"""A model card tells the Hub what the run's files say, and how to load it."""

import json
import re
import shlex
import shutil

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image
from small_run import run, small

from clim_jax import launch
from clim_jax.command_line.parse import parse
from clim_jax.experiment import configuration
from clim_jax.experiment.configuration import ConfigError, Overrides
from clim_jax.launch import Request
from clim_jax.weights.formats import hub
from clim_jax.weights.spec import Network

AS_IT_IS = Overrides(False, ())


def exported(workdir, output, **changes):
  config = configuration.load("base")
  config.evaluation.update(changes)
  overrides = Overrides(False, tuple(f"evaluation.{key}" for key in changes))
  request = Request("", str(output), "hub-folder", overrides)
  launch.run(config, "export", workdir, request)
  return output


@pytest.fixture(scope="module")
def folder(clim_run, tmp_path_factory):
  """That run, for the Hub."""
  return exported(clim_run, tmp_path_factory.mktemp("hub") / "mine")


def test_the_hub_reads_every_figure_of_the_run(folder, clim_run):
  data = ModelCard.load(folder / "README.md").data
  document = json.loads((clim_run / "evaluation.json").read_text())
  told = {
    (one.dataset_name, one.task_name): one.metric_value for one in data.eval_results
  }
  assert told == {
    (row["dataset"], "kNN, all labels, side 8"): round(100 * row["top1"], 1)
    for row in document["results"]
    if row["encoder"] == clim_run.name
  }
  assert data.library_name == "clim_jax"
  assert data.pipeline_tag == "image-feature-extraction"


def test_people_read_references_protocols_and_what_differs_from_base(folder):
  text = (folder / "README.md").read_text()
  assert re.search(r"\| kNN, all labels \| \d+\.\d \| \d+\.\d \|", text)
  assert "vote exp(cosine / temperature)" in text
  assert "| `selection.num_centers` | 3 | 1000 |" in text


def test_where_a_persons_files_lie_is_not_published(folder, arrays, clim_run):
  text = (folder / "README.md").read_text()
  assert str(arrays.parent) not in text
  assert str(clim_run) not in text


def test_the_command_of_a_card_gives_the_features_of_the_run(
  folder, clim_run, tmp_path, monkeypatch
):
  rng = np.random.default_rng(0)
  (tmp_path / "images").mkdir()
  for name in "ab":
    pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
  card = (folder / "README.md").read_text()
  block = re.search(r"```bash\nclim (embed .*?)```", card, re.DOTALL)[1]
  words = shlex.split(
    block.replace("\\\n", "").replace("FOLDER", "images").replace(".parquet", ".npz")
  )
  shutil.copytree(folder, tmp_path / folder.name)
  monkeypatch.chdir(tmp_path)
  for workdir, command in (
    ("", parse([*words, "--config.evaluation.batch_size=8"])),
    (clim_run, parse(["embed", f"--workdir={clim_run}", *words[-2:]])),
  ):
    values = command.flags
    request = Request(values["input"], values["output"], "", command.overrides)
    launch.run(command.config, "embed", clim_run.parent / (workdir or "new"), request)
    shutil.move("features.npz", f"features-{bool(workdir)}.npz")
  from_card, from_run = (np.load(f"features-{b}.npz") for b in (False, True))
  np.testing.assert_array_equal(from_card["features"], from_run["features"])


def test_figures_of_other_weights_are_left_out(clim_run, tmp_path):
  text = (exported(clim_run, tmp_path, encoder="key") / "README.md").read_text()
  assert "the key encoder after 4 steps" in text
  assert "None: these weights have not been evaluated." in text
  assert "model-index" not in text


@pytest.mark.slow
def test_transformers_loads_the_folder_as_its_card_says(arrays, tmp_path, monkeypatch):
  config = small("base", arrays, selection__rule="none", model__stem="imagenet")
  run(config, tmp_path / "run")
  exported(tmp_path / "run", tmp_path / "mine")
  text = (tmp_path / "mine" / "README.md").read_text()
  assert "by\nMoCo v2 with" in text
  block = re.search(r"```python\n(from transformers .*?)```", text, re.DOTALL)[1]
  monkeypatch.chdir(tmp_path)
  made = {}
  exec(block, made)
  stored = {name: value.shape for name, value in made["model"].state_dict().items()}
  assert stored["embedder.embedder.convolution.weight"] == (2, 3, 7, 7)


@pytest.mark.parametrize(
  ("network", "name"),
  [
    (Network("resnet50", "imagenet", 64), "timm"),
    (Network("resnet50", "imagenet", 32), "transformers"),
    (Network("resnet50", "cifar", 64), "clim_jax"),
  ],
)
def test_the_layout_is_that_of_a_library_that_has_the_network(network, name):
  assert hub.library(network) == name


def test_weights_of_a_file_have_no_card(folder, tmp_path):
  config = configuration.load("base")
  config.model.update(weights=str(folder), backbone="resnet_small", width=2)
  request = Request("", str(tmp_path / "a"), "hub-folder", AS_IT_IS)
  with pytest.raises(ConfigError, match="hub-folder writes a card of a run"):
    launch.run(config, "export", tmp_path / "none", request)
