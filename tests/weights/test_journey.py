"""A file of MoCo v2 comes in, is judged, and goes out to another library."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import json

import numpy as np
import published
import pytest
import torch
import transformers
from networks import DIM, HIDDEN, NARROW50, assert_features_agree, variables
from PIL import Image
from small_run import ROOT, shrink_evaluation

from clim_jax import launch
from clim_jax.experiment import configuration
from clim_jax.launch import Request
from clim_jax.weights.layout import projection_to_mlp, to_torchvision

LENGTH = 32


@pytest.fixture
def images(tmp_path):
  rng = np.random.default_rng(0)
  for index in range(36):
    part = "val" if index % 3 == 0 else "train"
    file = tmp_path / "images" / part / f"c{index % 2}" / f"{index}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (LENGTH, LENGTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
  return tmp_path / "images"


@pytest.fixture
def config(tmp_path):
  """That of a file in MoCo v2's layout, which is written."""
  params, batch_stats = variables(NARROW50)
  content = published.moco_v2(
    to_torchvision(params, batch_stats), projection_to_mlp(params)
  )
  state = {k: torch.from_numpy(v.copy()) for k, v in content["state_dict"].items()}
  torch.save(content | {"state_dict": state}, tmp_path / "moco.pth.tar")
  config = configuration.load(str(ROOT / "configs" / "base.py"))
  shrink_evaluation(config.evaluation)
  config.model.update(weights=str(tmp_path / "moco.pth.tar"), **NARROW50._asdict())
  config.model.update(hidden_dim=HIDDEN, embedding_dim=DIM)
  config.views.evaluation_side = LENGTH
  return config


@pytest.mark.slow
def test_moco_comes_in_is_judged_and_goes_out_to_transformers(config, images, tmp_path):
  out = tmp_path / "out"
  config.data.update(source="folder", path=str(images), test_split="val")
  config.evaluation.update(protocols=("knn",), references=("untrained",))
  launch.run(config, "evaluate", out)
  rows = json.loads((out / "evaluation.json").read_text())["results"]
  assert [(row["encoder"], row["protocol"]) for row in rows] == [
    ("moco", "knn"),
    ("untrained", "knn"),
  ]

  request = Request("", str(tmp_path / "resnet"), "transformers")
  launch.run(config, "export", out, request)
  request = Request(str(images / "val"), str(tmp_path / "features.npz"))
  launch.run(config, "embed", out, request)
  with np.load(tmp_path / "features.npz") as ours:
    files, features = ours["files"], ours["features"]
    assert ours["projections"].shape == (12, DIM)
  pixels = np.stack([np.asarray(Image.open(images / "val" / file)) for file in files])
  data = config.data
  pixels = (pixels / 255 - np.asarray(data.pixel_mean)) / np.asarray(data.pixel_std)
  model = transformers.ResNetModel.from_pretrained(tmp_path / "resnet").eval()
  with torch.no_grad():
    theirs = model(torch.tensor(pixels.transpose(0, 3, 1, 2), dtype=torch.float32))
  assert_features_agree(theirs.pooler_output[:, :, 0, 0].numpy(), features)
