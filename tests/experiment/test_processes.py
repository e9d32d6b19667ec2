"""Processes that were given different things are told so, and none begins."""

import pytest

from clim_jax.experiment.error import ConfigError
from clim_jax.experiment.processes import compare


def test_processes_that_were_given_the_same_may_begin():
  compare([{"epochs": 2, "data": "a"}] * 3)


def test_a_process_with_other_values_is_named_with_both():
  given = [{"epochs": 2, "seed": 0}, {"epochs": 2, "seed": 0}, {"epochs": 3, "seed": 0}]
  with pytest.raises(ConfigError, match="epochs is 3 in process 2 and 2 in process 0"):
    compare(given)


def test_a_key_that_one_version_lacks_counts_as_different():
  with pytest.raises(ConfigError, match="new is None in process 1 and 1 in process 0"):
    compare([{"new": 1}, {}])


def test_of_many_differences_some_are_shown_and_the_others_counted():
  with pytest.raises(ConfigError, match=r"and 2 more differ in process 1") as raised:
    compare([dict.fromkeys("abcde", 1), dict.fromkeys("abcde", 2)])
  assert str(raised.value).count("process 0") == 3
