"""What a run, or a file, brings to another run."""

import io
import json

import jax
import numpy as np
import pytest
from etils import epath
from rich.console import Console
from small_run import restored, small

from clim_jax import sharding
from clim_jax.experiment import configuration
from clim_jax.experiment.error import ConfigError
from clim_jax.experiment.experiment import init_variables
from clim_jax.experiment.runs import prepared_otherwise, with_weights
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


def begin_from(run, config):
  """The encoder of a config whose weights are those of a run, and what is said."""
  config.model.weights, said = str(run), io.StringIO()
  mesh = sharding.make_mesh()
  found = with_weights(config, init_variables(config, mesh), mesh, Console(file=said))
  return *found, said.getvalue()


def test_another_run_starts_from_the_encoder_of_a_run(plain_run, arrays):
  config = small("base", arrays, selection__rule="none")
  state = restored(config, plain_run).state
  variables, has_projection, said = begin_from(plain_run, config)
  assert has_projection
  assert f"weights of {plain_run}/checkpoints/4" in said
  expected = {"params": state.query_params, "batch_stats": state.query_stats}
  for a, b in zip(*map(jax.tree.leaves, (variables, expected)), strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_run_of_other_widths_lends_its_backbone_or_is_refused(plain_run, arrays):
  config = small("base", arrays, selection__rule="none", model__embedding_dim=6)
  assert not begin_from(plain_run, config)[1]
  config.model.width = 4
  with pytest.raises(ConfigError, match=r"width 2, the config asks for .* width 4"):
    begin_from(plain_run, config)
