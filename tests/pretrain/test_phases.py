"""What the time of a session goes to."""

import contextlib

from clim_jax.pretrain import phases as phases_module
from clim_jax.pretrain.phases import Phases


def test_phases_add_up_to_the_whole_and_the_rest_are_steps(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(phases_module.time, "perf_counter", lambda: now[0])
  phases = Phases("steps")
  for name, seconds in (("compiling", 20), ("selections", 5), ("selections", 6)):
    now[0] += 50
    with phases(name):
      now[0] += seconds
  with contextlib.suppress(KeyError), phases("probes"):
    now[0] += 1
    raise KeyError  # what is cut short counts as well
  assert phases.summary() == (
    "took 0:03:02: steps 0:02:30, compiling 0:00:20, selections 0:00:11, probes 0:00:01"
  )


def test_without_a_rest_only_what_was_named_is_told():
  phases = Phases()
  with phases("evaluation"):
    pass
  assert phases.summary() == "took 0:00:00: evaluation 0:00:00"
