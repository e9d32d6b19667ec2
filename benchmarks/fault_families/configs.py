"""Wrong and hostile configs: each runs or is refused in one sentence of ours.

Hypothesis draws keys of configs/base.py and values for them: of the right kind and
extreme, of a wrong kind, and no value at all. What passes the parser and the checks
must have a first state and a step: they are traced, not run.
"""

import pathlib
import re
from collections.abc import Callable
from typing import Any

import jax
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fault_families import session
from benchmarks.fault_families.family import Family
from clim_jax.command_line.parse import parse
from clim_jax.experiment import keys
from clim_jax.experiment.error import ConfigError
from clim_jax.experiment.experiment import open_experiment

# A sentence has the key or flag it is about.
_NAMES_A_KEY = re.compile(r"\w+\.\w+|\w+_\w+|epochs|seed|name|config")
_HOSTILE = (
  "",
  "None",
  "nan",
  "-inf",
  "1e999",
  "-1",
  "0",
  "()",
  "(1, 2",
  "[[]]",
  "((),)",
  "{}",
  str(10**30),
  "True",
  "'",
  "../../../etc/passwd",
  "/dev/null",
  "gs://",
  "\0",
  "~nobody/x",
  "__import__('os').abort()",
  "a" * 5000,
)
_INTS = st.sampled_from(
  (-(2**31), -7, -1, 0, 1, 2, 3, 5, 8, 16, 31, 2**16, 2**31, 2**63)
)
_FLOATS = st.one_of(
  st.sampled_from((-1.0, -0.0, 0.0, 1e-300, 0.5, 1.0, 1.5, 1e30)),
  st.floats(allow_nan=False, allow_infinity=False),
)
_TOO_LARGE = 64  # pixels of a side whose crops are not cut here


def configs(family: Family) -> None:
  """Reports a trial for each config."""

  @settings(
    max_examples=family.sized(600, 30),
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
  )
  @given(st.lists(_setting(), min_size=1, max_size=3, unique_by=lambda pair: pair[0]))
  def try_one(pairs: list[tuple[str, str]]) -> None:
    trial = " ".join(f"{key}={text[:60]!r}" for key, text in pairs)
    family.report(trial, *_outcome(pairs))

  try_one()


def _outcome(pairs: list[tuple[str, str]]) -> tuple[str]:
  """What is wrong with how a config ends; "" if nothing."""
  more = [f"--config.{key}={text}" for key, text in pairs]
  try:
    _trace([*session.arguments(pathlib.Path("/nowhere/run")), *more])
  except ConfigError as error:
    told = str(error)
    return ("" if _NAMES_A_KEY.search(told) else f"no key in: {told[:200]}",)
  except Exception as error:
    return (f"{type(error).__name__}: {str(error)[:300]}",)
  return ("",)


def _trace(arguments: list[str]) -> None:
  """Everything that a run does before its first step, and that step's shapes."""
  experiment = open_experiment(parse(arguments).config)
  before = jax.eval_shape(experiment.init_state)
  plan = experiment.view_plan
  if max(crop.side for crop in plan.crops) > _TOO_LARGE:
    return
  batch = next(experiment.batches(0, 1, None))
  jax.eval_shape(experiment.train_step(), before, batch)


def _setting() -> st.SearchStrategy[tuple[str, str]]:
  """A key and the text of a value."""
  return st.sampled_from(sorted(keys.BASE)).flatmap(
    lambda key: st.tuples(st.just(key), _texts(keys.BASE[key]))
  )


def _texts(like: Any) -> st.SearchStrategy[str]:
  right = _of_kind(like).map(str)
  wrong = st.one_of(st.sampled_from(_HOSTILE), st.text(max_size=20), _INTS.map(str))
  return st.one_of(right, right, wrong)


def _of_kind(like: Any) -> st.SearchStrategy[Any]:
  """Values of the type of a default."""
  if isinstance(like, tuple):
    inner = _of_kind(like[0] if like else "")
    return st.lists(inner, max_size=4).map(tuple)
  kinds: dict[type, Callable[[], st.SearchStrategy[Any]]] = {
    bool: st.booleans,
    int: lambda: _INTS,
    float: lambda: _FLOATS,
    str: lambda: st.one_of(st.just(like), st.sampled_from(_WORDS)),
  }
  return kinds[type(like)]()


_WORDS = ("none", "auto", "knn", "cluster", "center_wise", "mixup", "direct", "adamw")
_WORDS += ("lars", "resnet50", "imagenet", "bfloat16", "cosine", "folder", "npz", "key")
