"""Against torchvision and timm, in an environment of their own, on random weights."""

import json
import os
import pathlib
import subprocess

import numpy as np
import pytest
from networks import (
  PREPROCESSING,
  RESNET18,
  RESNET50,
  assert_features_agree,
  features,
  images,
  normalised,
  variables,
)

from clim_jax.weights.export import export
from clim_jax.weights.foreign import load_weights

ROOT = pathlib.Path(__file__).parents[2]
PYTHON = ROOT / "benchmarks" / ".venv-peers" / "bin" / "python"  # setup_peers.sh's
SCRIPT = pathlib.Path(__file__).parent / "foreign_features.py"
OURS = [
  ("torchvision from ours", RESNET18, "resnet18.pth"),
  ("torchvision from ours", RESNET50, "resnet50.safetensors"),
  ("timm", RESNET18, "timm18"),
  ("timm", RESNET50, "timm50"),
]
THEIRS = [
  (f"{library} for us", network, f"{network[0]}-{library}.pth")
  for library in ("torchvision", "timm")
  for network in (RESNET18, RESNET50)
]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
  """All in one process, whose start is what takes time: folder of files by name."""
  if not PYTHON.exists():
    pytest.skip("no environment of peers: run benchmarks/setup_peers.sh")
  environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
  check = [PYTHON, "-c", "import torchvision, timm, safetensors"]
  if subprocess.run(check, env=environment, capture_output=True).returncode:
    pytest.skip("the peers' environment lacks torchvision or timm: make it anew")
  folder = tmp_path_factory.mktemp("peers")
  np.save(folder / "images.npy", normalised(images()))
  for kind, network, name in OURS:
    format_name = "timm" if kind == "timm" else "torchvision"
    trees = variables(network)
    export(format_name, folder / name, *trees, network, PREPROCESSING)
  described = [
    {
      "kind": kind,
      "path": str(folder / name),
      "backbone": network.backbone,
      "images": str(folder / "images.npy"),
      "features": str(folder / f"{name}.npy"),
    }
    for kind, network, name in OURS + THEIRS
  ]
  (folder / "jobs.json").write_text(json.dumps(described))
  command = [PYTHON, SCRIPT, folder / "jobs.json"]
  done = subprocess.run(command, env=environment, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return folder


@pytest.mark.parametrize(("kind", "network", "name"), OURS)
def test_they_compute_our_features(jobs, kind, network, name):
  found = np.load(jobs / f"{name}.npy")
  assert_features_agree(found, features(network, *variables(network)))


@pytest.mark.parametrize(("kind", "network", "name"), THEIRS)
def test_we_compute_theirs(jobs, kind, network, name):
  loaded = load_weights(jobs / name, *variables(network))
  assert (loaded.layout, loaded.ignored) == ("torchvision", ("fc.bias", "fc.weight"))
  found = features(network, loaded.params, loaded.batch_stats)
  assert_features_agree(found, np.load(jobs / f"{name}.npy"))


def test_timm_prepares_images_as_the_evaluation_does(jobs):
  config = json.loads((jobs / "timm50.npy.json").read_text())
  assert config["input_size"] == [3, PREPROCESSING.side, PREPROCESSING.side]
  assert config["crop_pct"] == PREPROCESSING.crop_fraction
  assert config["mean"] == list(PREPROCESSING.pixel_mean)
  assert config["std"] == list(PREPROCESSING.pixel_std)
  assert (config["interpolation"], config["crop_mode"]) == ("bilinear", "center")
