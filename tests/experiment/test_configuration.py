"""Overrides, saved configs and their differences."""

import json
import pathlib

import pytest

from clim_jax.configs import base
from clim_jax.experiment import configuration
from clim_jax.experiment.configuration import ConfigError

ROOT = pathlib.Path(__file__).parents[2]
BASE = str(ROOT / "configs" / "base.py")
CONFIGS = sorted((ROOT / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_has_exactly_the_keys_of_base(path):
  config = configuration.load(str(path))
  assert set(configuration.flatten(config)) == set(
    configuration.flatten(base.get_config())
  )
  assert config.name == path.stem


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_keeps_the_types_of_base(path):
  expected = configuration.flatten(base.get_config())
  for key, value in configuration.flatten(configuration.load(str(path))).items():
    assert type(value) is type(expected[key]), key


@pytest.mark.parametrize(
  ("argument", "nearest"),
  [
    ("--config.optimizer.learning_rte=1", "optimizer.learning_rate"),
    ("--config.optim.learning_rate=1", "optimizer.learning_rate"),
    ("--config.epoch=1", "epochs"),
    ("--config.queue_size=4096", "moco.queue_size"),
    ("-config.selection.rules=knn", "selection.rule"),
  ],
)
def test_an_unknown_key_names_the_nearest(argument, nearest):
  with pytest.raises(ConfigError, match=nearest):
    configuration.check_override_keys([argument], default_path=BASE)


def test_no_arguments_pass():
  configuration.check_override_keys([], default_path=BASE)


def test_known_keys_and_other_flags_pass():
  arguments = ["--config.moco.queue_size=64", "--workdir=x", f"--config={BASE}"]
  configuration.check_override_keys(arguments, default_path="no/such.py")
  configuration.check_override_keys(
    ["--config", BASE, "--config.seed=3"], default_path=""
  )


def test_differences_name_the_changed_keys_and_both_values(tmp_path):
  config = base.get_config()
  configuration.save(config, tmp_path / "config.json")
  assert configuration.differences(config, tmp_path / "config.json") == []
  config.moco.queue_size = 17
  config.views.sides = (48, 32)
  config.log.every_steps = 1  # this and the next may change within a run
  config.augment.implementation = "xla"
  assert configuration.differences(config, tmp_path / "config.json") == [
    "moco.queue_size: 65536 → 17",
    "views.sides: [32] → [48, 32]",
  ]


def test_a_saved_config_is_restored_with_the_evaluation_asked_for(tmp_path):
  config = base.get_config()
  config.model.width = 7
  configuration.save(config, tmp_path / "config.json")
  asked = base.get_config()
  asked.evaluation.batch_size = 3
  restored = configuration.restore_into(asked, tmp_path / "config.json")
  assert restored.model.width == 7
  assert restored.evaluation.batch_size == 3
  assert json.loads((tmp_path / "config.json").read_text())["model"]["width"] == 7


def test_keys_that_an_older_version_did_not_save_have_the_values_of_today(tmp_path):
  asked = base.get_config()
  path = tmp_path / "config.json"
  configuration.save(asked, path)
  saved = json.loads(path.read_text())
  del saved["selection"]["scoring"], saved["mixture"]
  saved["selection"]["num_neighbours"] = 7
  path.write_text(json.dumps(saved))
  restored = configuration.restore_into(asked, path)
  assert restored.selection.scoring == asked.selection.scoring
  assert restored.mixture == asked.mixture
  assert restored.selection.num_neighbours == 7


def test_a_missing_config_file_is_named():
  with pytest.raises(ConfigError, match=r"no/such\.py"):
    configuration.load("no/such.py")
