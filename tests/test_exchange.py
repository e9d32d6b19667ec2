"""Features and weights that leave a run, and weights that enter one."""

import functools
import io
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet
from rich.console import Console
from small_run import ROOT, run, shrink_evaluation, small

from clim_jax import launch, sharding
from clim_jax.experiment import configuration
from clim_jax.experiment.configuration import ConfigError, Overrides
from clim_jax.experiment.experiment import open_experiment
from clim_jax.experiment.runs import open_run
from clim_jax.launch import Request
from clim_jax.pretrain.pretrain import _with_weights
from clim_jax.probes.subjects import apply


@pytest.fixture(scope="module")
def workdir(plain_run, tmp_path_factory):
  """A copy, for evaluations leave files."""
  return shutil.copytree(plain_run, tmp_path_factory.mktemp("judged") / "first")


@pytest.fixture(scope="module")
def exported(plain_run, tmp_path_factory):
  """That run as a file of torchvision's layout."""
  path = tmp_path_factory.mktemp("exported") / "first.safetensors"
  launch.run(asked(), "export", plain_run, Request("", str(path), "torchvision"))
  return path


@pytest.fixture
def images(tmp_path):
  """19 images in two folders, already of the evaluation's side."""
  rng = np.random.default_rng(0)
  for index in range(19):
    path = tmp_path / "images" / f"c{index % 2}" / f"{index:02}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
  return tmp_path / "images"


def asked(**changes):
  config = configuration.load(str(ROOT / "configs" / "base.py"))
  shrink_evaluation(config.evaluation)
  config.evaluation.update(changes)
  return config


def variables_of(workdir, role="query"):
  trained = open_run(
    asked(encoder=role), workdir, sharding.make_mesh(), configuration.WHOLE_CONFIG
  )
  return trained.subject.encoder, jax.device_get(trained.subject.variables)


def test_embedding_gives_features_projections_and_names(workdir, images, tmp_path):
  for suffix in ("npz", "parquet"):
    files = Request(str(images), str(tmp_path / f"out.{suffix}"))
    launch.run(asked(), "embed", workdir, files)
  with np.load(tmp_path / "out.npz") as arrays:
    found = dict(arrays)
  assert found["files"].tolist()[:2] == ["c0/00.png", "c0/02.png"]
  paths = [images / name for name in found["files"]]
  pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
  encoder, variables = variables_of(workdir)
  for name, layer in (("features", "features"), ("projections", "embedding")):
    expected, _ = apply(encoder, variables, pixels, layer=layer)
    np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)
  table = parquet.read_table(tmp_path / "out.parquet")
  assert table["files"].to_pylist() == found["files"].tolist()
  for name in ("features", "projections"):
    np.testing.assert_array_equal(np.stack(table[name].to_numpy()), found[name])


def test_an_embedding_for_embedding_atlas_has_a_map_and_thumbnails_besides(
  workdir, images, tmp_path
):
  (images / "c0" / "00.png").write_bytes(b"no image")
  config = asked()
  config.data.on_bad_image = "skip"
  files = (str(images), str(tmp_path / "out.parquet"))
  overrides = Overrides(False, ("data.on_bad_image",))
  launch.run(config, "embed", workdir, Request(*files, "", overrides, atlas=True))
  table = parquet.read_table(tmp_path / "out.parquet")
  assert {"features", "x", "y", "neighbors", "image"} < set(table.column_names)
  names = table["files"].to_pylist()
  assert len(names) == 18
  assert [row["path"] for row in table["image"].to_pylist()] == names
  assert table["folder"].to_pylist() == [name.split("/")[0] for name in names]
  thumbnails = [io.BytesIO(row["bytes"]) for row in table["image"].to_pylist()]
  shown, own = (
    np.stack([np.asarray(Image.open(file), np.float32) for file in files])
    for files in (thumbnails, [images / name for name in names])
  )
  apart = ((shown[:, None] - own[None]) ** 2).mean(axis=(2, 3, 4))  # JPEG is not exact
  np.testing.assert_array_equal(apart.argmin(axis=1), np.arange(18))
  near = np.array([row["ids"] for row in table["neighbors"].to_pylist()])
  assert near.shape == (18, 17)
  assert near.max() == 17


def test_images_that_cannot_be_decoded_are_left_out_of_an_embedding(
  workdir, images, tmp_path
):
  (images / "c0" / "00.png").write_bytes(b"no image")
  skipping = tmp_path / "skipping"
  shutil.copytree(workdir, skipping)
  saved = json.loads((skipping / "config.json").read_text())
  saved["data"]["on_bad_image"] = "skip"
  (skipping / "config.json").write_text(json.dumps(saved))
  launch.run(
    asked(), "embed", skipping, Request(str(images), str(tmp_path / "out.npz"))
  )
  with np.load(tmp_path / "out.npz") as found:
    assert len(found["features"]) == 18
    assert "c0/00.png" not in found["files"]


@pytest.mark.parametrize(
  ("mode", "files", "message"),
  [
    ("embed", Request("nowhere", "out.npz"), "'nowhere' does not exist"),
    ("embed", Request("nowhere", "out.csv"), r"must end in \.npz or \.parquet"),
    ("embed", Request("nowhere", "out.npz", atlas=True), r"must end in \.parquet"),
    ("export", Request(output="x", format="keras"), "'keras' is unknown"),
    ("export", Request(output="x", format="timm"), "Export torchvision or onnx"),
  ],
)
def test_what_cannot_be_written_is_said(mode, files, message, workdir):
  with pytest.raises(ConfigError, match=message):
    launch.run(asked(), mode, workdir, files)


def test_an_export_evaluates_as_the_run_it_came_from(
  workdir, exported, arrays, tmp_path
):
  config = small("base", arrays, model__weights=str(exported))
  config.data.test_path = str(arrays)
  config.evaluation.protocols = ("knn", "linear_cached")
  config.evaluation.references = ()
  launch.run(config, "evaluate", tmp_path)
  config.model.weights = ""
  config.evaluation.datasets = (f"npz:{arrays},{arrays}",)
  launch.run(config, "evaluate", workdir)
  of_file, of_run = (
    [
      row["settings"]
      for row in json.loads((path / "evaluation.json").read_text())["results"]
    ]
    for path in (tmp_path, workdir)
  )
  assert of_file == of_run


def test_a_projection_that_a_file_has_not_is_neither_written_nor_judged(
  exported, images, arrays, tmp_path
):
  out = tmp_path / "out.npz"
  config = small("base", arrays, model__weights=str(exported))
  launch.run(config, "embed", tmp_path, Request(str(images), str(out)))
  with np.load(out) as found:
    assert set(found) == {"files", "features"}
  config.evaluation.layer = "embedding"
  with pytest.raises(ConfigError, match=r"layer 'embedding' is of the projection"):
    launch.run(config, "evaluate", tmp_path)


def test_a_run_and_weights_at_once_are_refused(workdir, arrays):
  config = small("base", arrays, model__weights="some.pth")
  with pytest.raises(ConfigError, match=r"holds a run and model\.weights"):
    launch.run(config, "evaluate", workdir)


def test_pretraining_starts_from_weights(workdir, exported, arrays, tmp_path):
  config = small("base", arrays, selection__rule="none")
  config.model.weights = str(exported)
  config.optimizer.learning_rate = 0.0
  config.seed = 7
  run(config, tmp_path / "second")
  for role in ("query", "key"):
    _, started = variables_of(tmp_path / "second", role)
    _, origin = variables_of(workdir)
    # A moving average of equal numbers is off by a last bit in each of four steps.
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-6),
      started["params"]["backbone"],
      origin["params"]["backbone"],
    )
  experiment = open_experiment(config)
  state = _with_weights(experiment, experiment.init_state(), Console(quiet=True))
  for stats in (state.query_stats, state.key_stats):
    same = jax.tree.map(np.array_equal, stats, origin["batch_stats"])
    assert all(jax.tree.leaves(same))
  # The file has no projection: that of the new seed stays.
  kernels = [v["params"]["projection1"]["kernel"] for v in (started, origin)]
  assert (kernels[0] != kernels[1]).any()


def test_weights_of_another_network_are_refused_before_training(
  exported, arrays, tmp_path
):
  config = small("base", arrays, model__weights=str(exported), model__width=4)
  with pytest.raises(ConfigError, match=r"model\.weights.*width 2.*width 4"):
    run(config, tmp_path / "second")
