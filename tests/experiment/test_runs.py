"""Weights that were trained on images prepared in another way."""

import json

import pytest
from etils import epath

from clim_jax.experiment import configuration
from clim_jax.experiment.runs import prepared_otherwise
from clim_jax.weights.spec import Network, Preprocessing, record

OURS = {
  "side": 32,
  "crop_fraction": 1.0,
  "pixel_mean": (0.485, 0.456, 0.406),
  "pixel_std": (0.229, 0.224, 0.225),
}


def warnings(folder, **changes):
  made = record(Network("resnet18", "cifar", 64), Preprocessing(**(OURS | changes)))
  (folder / "a.pth.preprocessing.json").write_text(json.dumps(made))
  config = configuration.load("base")
  config.model.weights = str(epath.Path(folder) / "a.pth")
  return prepared_otherwise(config)


def test_nothing_is_said_of_images_prepared_alike_or_unknown(tmp_path):
  assert warnings(tmp_path) == []
  (tmp_path / "a.pth.preprocessing.json").unlink()
  config = configuration.load("base")
  config.model.weights = str(tmp_path / "a.pth")
  assert prepared_otherwise(config) == []


@pytest.mark.parametrize(
  ("changes", "told"),
  [
    ({"side": 224}, "views.evaluation_side=224 and not 32"),
    (
      {"pixel_mean": (0.5, 0.5, 0.5)},
      "data.pixel_mean=(0.5,0.5,0.5) and not (0.485,0.456,0.406)",
    ),
  ],
)
def test_both_values_are_told(changes, told, tmp_path):
  (warning,) = warnings(tmp_path, **changes)
  assert told in warning
  assert warning.count(" and not ") == 1
