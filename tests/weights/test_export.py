"""What every export has in common, and which networks each format refuses."""

import json
import sys

import numpy as np
import pytest
from networks import (
  NARROW50,
  PREPROCESSING,
  RESNET18,
  SMALL,
  TINY,
  Network,
  assert_same_bits,
  shapes,
  variables,
)

from clim_jax.weights.error import WeightsError
from clim_jax.weights.export import FORMATS, export
from clim_jax.weights.files import read_tensors
from clim_jax.weights.foreign import load_weights
from clim_jax.weights.layout import to_torchvision
from clim_jax.weights.spec import recorded

OUTPUTS = {
  "torchvision": ("a.safetensors", RESNET18),
  "timm": ("a", RESNET18),
  "transformers": ("a", SMALL),
  "detectron2": ("a.pkl", NARROW50),
  "onnx": ("a.onnx", TINY),
  "hub-folder": ("a", TINY),
}


def test_every_format_is_tried_here():
  assert set(OUTPUTS) == set(FORMATS)


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_preprocessing_stands_beside_every_export(tmp_path, format_name):
  name, network = OUTPUTS[format_name]
  output = tmp_path / "made" / name
  export(format_name, output, *variables(network), network, PREPROCESSING)
  if output.is_dir():
    path = output / "preprocessing.json"
  else:
    path = output.with_name(f"{name}.preprocessing.json")
  assert recorded(output) == PREPROCESSING
  record = json.loads(path.read_text())
  record.pop("settings", None)
  assert record == {
    "network": {
      "backbone": network.backbone,
      "stem": network.stem,
      "width": network.width,
    },
    "crop": "center",
    "crop_fraction": 0.875,
    "side": 32,
    "resize": 37,  # 32 / 0.875 = 36.57
    "interpolation": "bilinear",
    "antialias": True,
    "channel_order": "RGB",
    "value_range": [0, 1],
    "mean": [0.4, 0.45, 0.5],
    "std": [0.2, 0.25, 0.3],
  }


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
@pytest.mark.parametrize("network", [TINY, NARROW50], ids=str)
def test_any_networks_state_dict_is_written_and_read_again(tmp_path, network, name):
  ours = variables(network)
  export("torchvision", tmp_path / name, *ours, network, PREPROCESSING)
  assert_same_bits(read_tensors(tmp_path / name), to_torchvision(*ours))


def test_a_folder_of_timm_is_loaded_again_bit_for_bit(tmp_path):
  params, batch_stats = variables(RESNET18)
  export("timm", tmp_path, params, batch_stats, RESNET18, PREPROCESSING)
  loaded = load_weights(tmp_path, *shapes(RESNET18))
  assert loaded.layout == "torchvision"
  assert_same_bits(loaded.params["backbone"], params["backbone"])
  assert_same_bits(loaded.batch_stats, batch_stats)


@pytest.mark.parametrize(
  ("format_name", "network"),
  [
    ("timm", Network("resnet18", "cifar", 64)),
    ("timm", Network("resnet18", "imagenet", 32)),
    ("timm", Network("resnet_small", "imagenet", 64)),
    ("transformers", TINY),
    ("detectron2", RESNET18),
    ("detectron2", Network("resnet50", "cifar", 64)),
  ],
  ids=str,
)
def test_what_a_format_cannot_say_is_refused_before_anything_is_written(
  tmp_path, format_name, network
):
  output = tmp_path / OUTPUTS[format_name][0]
  with pytest.raises(WeightsError, match="xport torchvision or onnx"):
    export(format_name, output, *variables(TINY), network, PREPROCESSING)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format_name", ["torchvision", "detectron2", "onnx"])
def test_a_name_that_does_not_suit_the_format_is_refused(tmp_path, format_name):
  _, network = OUTPUTS[format_name]
  with pytest.raises(WeightsError, match=r"a\.txt must end in \."):
    export(format_name, tmp_path / "a.txt", *variables(network), network, PREPROCESSING)


def test_weights_of_another_network_are_refused(tmp_path):
  with pytest.raises(WeightsError, match="of resnet_small, stem cifar, width 4, not"):
    export("onnx", tmp_path / "a.onnx", *variables(TINY), SMALL, PREPROCESSING)


def test_an_unknown_format_is_told():
  with pytest.raises(WeightsError, match="'coreml' is unknown: give one of torch"):
    export("coreml", "a", *variables(TINY), TINY, PREPROCESSING)


@pytest.mark.parametrize(
  ("format_name", "name", "module"),
  [("onnx", "a.onnx", "onnx"), ("torchvision", "a.pth", "torch")],
)
def test_a_missing_extra_is_named(tmp_path, monkeypatch, format_name, name, module):
  monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(WeightsError, match=f"pip install {module}"):
    export(format_name, tmp_path / name, *variables(TINY), TINY, PREPROCESSING)


def test_what_is_there_is_replaced(tmp_path):
  path = tmp_path / "a.safetensors"
  for seed in (0, 1):
    export("torchvision", path, *variables(TINY, seed), TINY, PREPROCESSING)
  found = read_tensors(path)["conv1.weight"]
  expected = to_torchvision(*variables(TINY, 1))["conv1.weight"]
  np.testing.assert_array_equal(found, expected)


def test_a_record_of_somebody_else_says_nothing(tmp_path):
  (tmp_path / "preprocessing.json").write_text('{"size": 224}')
  assert recorded(tmp_path / "a.pth") is None
  assert recorded(tmp_path / "elsewhere" / "a.pth") is None
