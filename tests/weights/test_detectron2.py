"""Against the names and shapes of detectron2's R50 backbone."""

import json
import pickle

import numpy as np
import pytest
from networks import PREPROCESSING, RESNET50, variables

from clim_jax.weights.export import export

NORM = ("weight", "bias", "running_mean", "running_var")


def _published():
  """Names and shapes that detectron2 gives R-50: build_resnet_backbone, DEPTH 50."""
  shapes = {}

  def add(name, *shape):
    shapes[f"{name}.weight"] = shape
    shapes.update({f"{name}.norm.{leaf}": shape[:1] for leaf in NORM})

  add("stem.conv1", 64, 3, 7, 7)
  inputs = 64
  for stage, blocks in zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True):
    inner = 64 * 2 ** (stage - 2)
    for block in range(blocks):
      name = f"res{stage}.{block}"
      if block == 0:
        add(f"{name}.shortcut", 4 * inner, inputs, 1, 1)
      add(f"{name}.conv1", inner, inputs, 1, 1)
      add(f"{name}.conv2", inner, inner, 3, 3)
      add(f"{name}.conv3", 4 * inner, inner, 1, 1)
      inputs = 4 * inner
  return shapes


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
  path = tmp_path_factory.mktemp("detectron2") / "r50.pkl"
  export("detectron2", path, *variables(RESNET50), RESNET50, PREPROCESSING)
  return path, pickle.loads(path.read_bytes())


def test_names_and_shapes_are_the_published_ones(exported):
  _, content = exported
  found = {name: tensor.shape for name, tensor in content["model"].items()}
  assert found == _published()
  assert content["__author__"]
  assert content["matching_heuristics"] is True
  assert {type(tensor) for tensor in content["model"].values()} == {np.ndarray}


@pytest.mark.parametrize(
  ("theirs", "ours"),
  [
    ("stem.conv1", ("conv1", "bn1")),
    ("res2.0.conv1", ("layer1_0", "conv1", "bn1")),
    ("res3.0.shortcut", ("layer2_0", "downsample_conv", "downsample_bn")),
    ("res4.5.conv2", ("layer3_5", "conv2", "bn2")),
    ("res5.2.conv3", ("layer4_2", "conv3", "bn3")),
  ],
)
def test_each_tensor_is_ours_bit_for_bit(exported, theirs, ours):
  model = exported[1]["model"]
  learned, running = (tree["backbone"] for tree in variables(RESNET50))
  *block, convolution, norm = ours
  for name in block:
    learned, running = learned[name], running[name]
  expected = (
    learned[norm]["scale"],
    learned[norm]["bias"],
    running[norm]["mean"],
    running[norm]["var"],
  )
  for leaf, values in zip(NORM, expected, strict=True):
    np.testing.assert_array_equal(model[f"{theirs}.norm.{leaf}"], values)
  kernel = learned[convolution]["kernel"].transpose(3, 2, 0, 1)
  np.testing.assert_array_equal(model[f"{theirs}.weight"], kernel)


def test_the_detectors_settings_stand_beside_it(exported):
  path, _ = exported
  record = json.loads(path.with_name("r50.pkl.preprocessing.json").read_text())
  settings = record["settings"]
  assert settings["MODEL.PIXEL_MEAN"] == pytest.approx([102, 114.75, 127.5])
  assert settings["MODEL.PIXEL_STD"] == pytest.approx([51, 63.75, 76.5])
  assert settings["INPUT.FORMAT"] == "RGB"
  assert settings["MODEL.RESNETS.STRIDE_IN_1X1"] is False
  assert settings["MODEL.RESNETS.DEPTH"] == 50
  assert settings["MODEL.RESNETS.RES2_OUT_CHANNELS"] == 256
