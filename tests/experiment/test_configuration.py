"""Overrides, saved configs and their differences."""

import json
import pathlib

import pytest
from small_run import CONFIGS

from clim_jax.configs import base
from clim_jax.experiment import configuration
from clim_jax.experiment.configuration import ConfigError

ROOT = pathlib.Path(__file__).parents[2]
BASE = str(ROOT / "configs" / "base.py")


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_has_exactly_the_keys_of_base(name):
  config = configuration.load(name)
  assert set(configuration.flatten(config)) == set(
    configuration.flatten(base.get_config())
  )
  assert config.name == name.partition(":")[0]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_keeps_the_types_of_base(name):
  expected = configuration.flatten(base.get_config())
  for key, value in configuration.flatten(configuration.load(name)).items():
    assert type(value) is type(expected[key]), key


def test_what_may_not_change_is_refused_with_both_values(tmp_path):
  config = base.get_config()
  configuration.save(config, tmp_path / "config.json")
  assert configuration.changes(config, tmp_path / "config.json") == []
  config.moco.queue_size = 17
  config.views.sides = (48, 32)
  config.log.every_steps = 1  # this and the next may change within a run
  config.augment.implementation = "xla"
  with pytest.raises(ConfigError) as refused:
    configuration.changes(config, tmp_path / "config.json")
  assert str(refused.value).splitlines()[1:] == [
    "  moco.queue_size: 65536 → 17",
    "  views.sides: [32] → [48, 32]",
  ]


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("data.on_bad_image", "skip"),
    ("data.path", "/elsewhere"),
    ("epochs", 300),
    ("model.dtype", "float32"),
    ("model.recompute", True),
    ("optimizer.learning_rate", 0.01),
    ("selection.scoring", "bfloat16"),
    ("augment.implementation", "xla"),
  ],
)
def test_what_may_change_is_told_with_what_follows(key, value, tmp_path):
  config = base.get_config()
  configuration.save(config, tmp_path / "config.json")
  config.update_from_flattened_dict({key: value})
  (change,) = configuration.changes(config, tmp_path / "config.json")
  assert (change.key, change.given) == (key, value)
  assert change.effect


def test_saved_epochs_that_are_no_number_are_refused(tmp_path):
  path = tmp_path / "config.json"
  path.write_text(json.dumps(base.get_config().to_dict() | {"epochs": "three"}))
  with pytest.raises(ConfigError, match="epochs: three → 200"):
    configuration.changes(base.get_config(), path)


def test_fewer_epochs_than_planned_are_refused(tmp_path):
  config = base.get_config()
  configuration.save(config, tmp_path / "config.json")
  config.epochs = 100
  with pytest.raises(ConfigError, match="epochs: 200 → 100"):
    configuration.changes(config, tmp_path / "config.json")


def test_a_key_that_an_older_version_did_not_save_changes_nothing(tmp_path):
  config, path = base.get_config(), tmp_path / "config.json"
  configuration.save(config, path)
  saved = json.loads(path.read_text())
  del saved["selection"]["scoring"], saved["mixture"]
  path.write_text(json.dumps(saved))
  assert configuration.changes(config, path) == []
  config.mixture.alpha = 1.0  # not as that version had it
  with pytest.raises(ConfigError, match=r"mixture\.alpha: 2\.0 → 1\.0"):
    configuration.changes(config, path)


@pytest.mark.parametrize(
  "content", ['{"epochs": 2, "da', "", "[]", "3", "\x00\x00", '{"a": }']
)
def test_a_damaged_config_is_refused_with_the_mend(content, tmp_path):
  path = tmp_path / "config.json"
  path.write_text(content)
  for read in (configuration.changes, configuration.restore_into):
    with pytest.raises(ConfigError, match=r"config\.json is damaged .* bring back"):
      read(base.get_config(), path)


def test_a_config_is_written_only_if_it_differs(tmp_path):
  config, path = base.get_config(), tmp_path / "config.json"
  configuration.save(config, path)
  inode = path.stat().st_ino
  configuration.save(config, path)
  assert path.stat().st_ino == inode
  config.epochs = 3
  configuration.save(config, path)
  assert json.loads(path.read_text())["epochs"] == 3


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


@pytest.mark.parametrize("name", ["digits", "digits.py", "configs/digits.py", BASE])
def test_a_config_is_found_by_name_or_path_from_any_folder(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  expected = "base" if name == BASE else "digits"
  assert configuration.load(name).name == expected


def test_an_unknown_config_names_the_nearest_and_all():
  with pytest.raises(ConfigError, match=r"'digit' .* mean digits\? .* evaluate/knn"):
    configuration.load("digit")
  with pytest.raises(ConfigError, match=r"no/such\.py"):
    configuration.load("no/such.py")


def test_names_have_the_first_line_of_each_config():
  found = configuration.names()
  files = (ROOT / "configs").rglob("*.py")
  paths = {path.relative_to(ROOT / "configs").with_suffix("") for path in files}
  assert set(found) == {path.as_posix() for path in paths}
  assert all(found.values())


@pytest.mark.parametrize(
  "wrong",
  ["own_images", "own_images:", "own_images:many", "own_images:5000:1", "digits:3"],
)
def test_a_number_too_few_or_many_is_refused_with_the_form(wrong):
  form = "--config=own_images:NUM_IMAGES$" if "own" in wrong else "--config=digits$"
  with pytest.raises(ConfigError, match=f"{wrong} should be {form}"):
    configuration.load(wrong)


@pytest.mark.parametrize("num_images", [1_000, 2_500, 5_000, 30_000, 100_000])
def test_the_values_for_own_images_suit_their_number(num_images):
  config = configuration.load(f"own_images:{num_images}")
  steps_per_epoch = max(num_images // config.batch_size, 1)
  steps = config.epochs * steps_per_epoch
  assert steps >= 7_500
  assert steps < 2 * 7_500 or config.epochs == 100
  assert num_images / 4 < config.moco.queue_size <= num_images / 2
  assert config.selection.warmup_epochs < config.epochs


OWN = """
from clim_jax.configs import base
def get_config():
  config = base.get_config()
  {}
  return config
"""


def load_own(folder, line):
  path = folder / "mine.py"
  path.write_text(OWN.format(line))
  return configuration.load(str(path))


def test_a_file_of_ones_own_may_have_defaults_and_a_colon_in_its_path(tmp_path):
  path = tmp_path / "16:30" / "mine.py"
  path.parent.mkdir()
  text = OWN.format("config.epochs = 3 if short else 30")
  path.write_text(text.replace("get_config():", "get_config(short=True):", 1))
  assert configuration.load(str(path)).epochs == 3


def test_a_file_anywhere_can_build_on_base(tmp_path):
  config = load_own(tmp_path, "config.epochs, config.views.sides = 3, (48, 32)")
  assert (config.epochs, config.views.sides) == (3, (48, 32))


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("config.moco.temprature = 0.1", r"mine\.py.*moco\.temperature"),
    ("config.augment.blur_sigma = (1.0,)", r"blur_sigma \(1\.0,\) must be 2 values"),
    ("config.epochs = 'five'", r"mine\.py.*epochs"),
    ("del config['mixture']", r"lacks mixture\.alpha, .* begin with base"),
    ("config.epochs = ", r"mine\.py: SyntaxError"),
    ("import no_such_module", r"mine\.py: ModuleNotFoundError"),
  ],
)
def test_a_fault_in_a_config_file_is_told_with_its_path(line, message, tmp_path):
  with pytest.raises(ConfigError, match=message):
    load_own(tmp_path, line)
