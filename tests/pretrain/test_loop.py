"""The order of the loop, with steps that only note when they are given out."""

from types import SimpleNamespace as Namespace
from unittest.mock import MagicMock

import pytest

from clim_jax.experiment.checkpoints import Checkpoint
from clim_jax.pretrain import loop as loop_module
from clim_jax.pretrain.loop import Loop

STEPS = 12


class NotedLoop(Loop):
  """Steps whose metrics are their numbers."""

  def __init__(self, every_steps, seen):
    self._config = Namespace(
      log=Namespace(every_steps=every_steps),
      online=Namespace(every_epochs=0),
    )
    self._stream = Namespace(steps_per_epoch=STEPS)
    self._experiment = Namespace(
      total_steps=STEPS, batches=lambda step, stop, _: iter(range(step, stop))
    )
    self._meter = self._progress = self._checkpoints = MagicMock()
    self._online_probes, self._lap, self._seen = None, [], seen
    self._interruption = Namespace(asked=lambda step: False)

  def _update(self, state, batch, step):
    self._seen.append(("given", step))
    return state, step

  def _is_saved(self, step, is_logged):
    return False

  def _report(self, step, lap):
    self._seen.append(("fetched", step))


# A lap's metrics go to its report, which fetches them once one more step is given.
@pytest.mark.parametrize(("every_steps", "ahead"), [(100, 2), (4, 3)])
def test_the_host_runs_no_further_ahead(every_steps, ahead, monkeypatch):
  seen = []
  monkeypatch.setattr(
    loop_module.jax, "block_until_ready", lambda done: seen.append(("done", done))
  )
  start = Checkpoint("state", None)
  NotedLoop(every_steps, seen)._train(start, 0, STEPS)
  known = 0  # the newest step whose end has been seen
  for what, step in seen[:-1]:
    if what == "given":
      assert step - known <= ahead
    else:
      known = max(known, step)
  assert [step for what, step in seen if what == "given"] == list(range(1, STEPS + 1))
