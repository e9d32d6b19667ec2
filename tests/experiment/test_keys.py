"""What a key may hold, as text, from Python and in a config."""

import os
import pathlib

import numpy as np
import pytest

from clim_jax.configs import base
from clim_jax.experiment import keys
from clim_jax.experiment.error import ConfigError


@pytest.mark.parametrize(
  ("key", "text", "value"),
  [
    ("epochs", "5", 5),
    ("optimizer.warmup_epochs", "4", 4.0),
    ("optimizer.weight_decay", "1e-6", 1e-6),
    ("moco.symmetric", "true", True),
    ("moco.symmetric", "False", False),
    ("name", "5", "5"),
    ("data.path", "(a, b)", "(a, b)"),
    ("evaluation.protocols", "knn", ("knn",)),
    ("evaluation.protocols", "('knn',)", ("knn",)),
    ("evaluation.protocols", "('knn', 'linear')", ("knn", "linear")),
    ("evaluation.protocols", "knn, linear", ("knn", "linear")),
    ("evaluation.protocols", "'knn'", ("knn",)),
    ("evaluation.protocols", "[]", ()),
    ("evaluation.compare", "2024", ("2024",)),
    ("evaluation.compare", "", ()),
    ("evaluation.datasets", "npz:a.npz,b.npz", ("npz:a.npz,b.npz",)),
    ("views.sides", "32", (32,)),
    ("views.sides", "64, 48", (64, 48)),
    ("views.min_scales", "(1,)", (1.0,)),
    ("augment.blur_sigma", "(0.1, 1)", (0.1, 1.0)),
    ("evaluation.finetune.settings", "(0.1, 1)", ((0.1, 1.0),)),
    ("evaluation.finetune.settings", "((0.1, 1), (2, 3))", ((0.1, 1.0), (2.0, 3.0))),
  ],
)
def test_text_is_read_as_the_type_of_the_key(key, text, value):
  found = keys.from_text(key, text)
  assert found == value
  assert type(found) is type(value)
  if isinstance(value, tuple):
    assert list(map(type, found)) == list(map(type, value))


@pytest.mark.parametrize(
  ("key", "text", "message"),
  [
    ("epochs", "five", "epochs 'five' must be a whole number"),
    ("epochs", "5.5", "a whole number"),
    ("epochs", "True", "a whole number"),
    ("seed", str(2**31), "seed 2147483648 must be a whole number below 2147483648"),
    ("moco.symmetric", "1", "True or False"),
    ("moco.temperature", "nan", "a number"),
    ("moco.temperature", "1e999", "a number"),
    ("augment.blur_sigma", "0.1", r"0\.1 must be 2 values such as \(0\.1, 2\.0\)"),
    ("data.pixel_mean", "(0.5, 0.5)", "3 values"),
    ("views.sides", "(a, b)", r"a tuple such as \(32,\)"),
    ("views.sides", "(32, 16.5)", "a tuple such as"),
    ("evaluation.finetune.settings", "((0.1,),)", "a tuple such as"),
    ("evaluation.finetune.settings", "(1, 2, 3)", "a tuple such as"),
    ("evaluation.datasets", "(1, 2)", "text"),
    ("moco", "1", "section, not a key; in it are moco"),
  ],
)
def test_text_of_another_kind_or_length_is_refused(key, text, message):
  with pytest.raises(ConfigError, match=message):
    keys.from_text(key, text)


@pytest.mark.parametrize(
  ("key", "nearest"),
  [
    ("optimizer.learning_rte", "optimizer.learning_rate"),
    ("optim.learning_rate", "optimizer.learning_rate"),
    ("epoch", "epochs"),
    ("queue_size", "moco.queue_size"),
    ("selection.rules", "selection.rule"),
    ("temperature", "moco.temperature"),
    ("evaluation.batch_sizes", "evaluation.batch_size"),
  ],
)
def test_an_unknown_key_names_the_nearest(key, nearest):
  with pytest.raises(ConfigError, match=rf"{key}'; the nearest is {nearest} "):
    keys.check_key(key)


def test_values_of_python_and_numpy_are_taken():
  config = base.get_config()
  values = {
    "epochs": np.int64(3),
    "moco.temperature": np.float32(0.5),
    "views.sides": [48, np.int32(32)],
    "evaluation.protocols": "knn",
    "data.path": pathlib.Path("some/where"),
  }
  keys.override(config, values)
  assert (config.epochs, config.moco.temperature) == (3, 0.5)
  assert config.views.sides == (48, 32)
  assert config.evaluation.protocols == ("knn",)
  assert config.data.path == "some/where"
  with pytest.raises(ConfigError, match="epochs None must be a whole number"):
    keys.override(config, {"epochs": None})


def test_a_home_is_expanded_wherever_a_path_may_stand(monkeypatch):
  monkeypatch.setenv("HOME", "/home/me")
  home = os.path.expanduser("~")
  for key, text, found in [
    ("data.path", "~/x", f"{home}/x"),
    ("model.weights", "~", home),
    ("data.path", "a~b/~", "a~b/~"),
    (
      "evaluation.datasets",
      "npz:~/a.npz,~/b.npz",
      (f"npz:{home}/a.npz,{home}/b.npz",),
    ),
    ("evaluation.compare", "('moco=~/m', '~/c')", (f"moco={home}/m", f"{home}/c")),
    ("evaluation.finetune.label_lists", "~/1percent.txt", (f"{home}/1percent.txt",)),
  ]:
    assert keys.from_text(key, text) == found


def test_base_itself_conforms():
  config = base.get_config()
  keys.conform(config)
  assert keys.flatten(config) == keys.BASE
