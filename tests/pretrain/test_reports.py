"""What is said and logged of laps and selections."""

import io
import types

import numpy as np
import pytest
from rich.console import Console
from small_run import ROOT

from clim_jax.data import diagnosis
from clim_jax.experiment import configuration
from clim_jax.pretrain import meter as meter_module
from clim_jax.pretrain import reports as reports_module
from clim_jax.pretrain.progress import TrainProgress
from clim_jax.pretrain.reports import Reports

STEPS_PER_EPOCH, EPOCHS = 10, 40
FIGURES = {"mean_positives": 7.71, "empty_share": 0.03, "seconds": 6.04}


class Experiment:
  """As much of one as is reported of."""

  def __init__(self, platform="cpu"):
    self.config = configuration.load(str(ROOT / "configs" / "digits.py"))
    self.stream = types.SimpleNamespace(steps_per_epoch=STEPS_PER_EPOCH)
    self.total_steps = STEPS_PER_EPOCH * EPOCHS
    device = types.SimpleNamespace(platform=platform, device_kind="some")
    self.mesh = types.SimpleNamespace(devices=np.asarray([device], object))
    self.train = types.SimpleNamespace(stand_ins={})
    self.learning_rate = lambda step: 0.1
    self.view_plan = None


class Told:
  """Reports of a run, their lines and their records."""

  def __init__(self, monkeypatch, platform="cpu"):
    self.clock, self.records = 0.0, []
    monkeypatch.setattr(meter_module.time, "perf_counter", lambda: self.clock)
    self._console = Console(file=io.StringIO(), width=60)
    progress = TrainProgress(
      self._console, first_step=0, total_steps=400, epochs=EPOCHS, chance_loss=6.93
    )
    log = types.SimpleNamespace(
      kept=[], write=lambda step, record: self.records.append(record)
    )
    self.reports = Reports(Experiment(platform), log, progress, lambda: 7, first_step=0)

  @property
  def lines(self):
    return self._console.file.getvalue().splitlines()

  def lap(self, step, losses, *, waited=0.0, busy=1.0):
    def batches():
      self.clock += waited * busy
      yield None

    self.reports.meter.wait(batches())
    self.clock += (1 - waited) * busy
    lap = [
      {"loss": loss, "plain_loss": loss, "contrast_accuracy": 0.5}
      | {"embedding_spread": 0.8}
      for loss in map(np.float32, losses)
    ]
    lap[-1]["positive_share"] = np.float32(0.5)  # steps before had no positives
    self.reports.lap(step, lap, 1e9, 0)
    return self.records[-1]


@pytest.fixture
def told(monkeypatch):
  return Told(monkeypatch)


def test_a_record_has_the_means_of_its_lap(told):
  record = told.lap(4, [1.0, 2.0, 3.0, 6.0])
  assert record["loss"] == 3
  assert record["positive_share"] == 0.5
  assert record["images_per_second"] == 4 * 64
  assert record["epoch"] == 0.4


def test_the_step_whose_loss_is_not_finite_is_named(told):
  with pytest.raises(FloatingPointError, match=r"loss is nan at step 22; .*\(step 7\)"):
    told.lap(24, [1.0, np.nan, np.inf, 1.0])


@pytest.mark.parametrize(
  ("platform", "on_device", "waits", "advised"),
  [
    ("gpu", False, [0.3, 0.3, 0.3, 0.3], 1),
    ("gpu", False, [0.3, 0.3, 0.2, 0.3, 0.3], 0),
    ("gpu", True, [0.3, 0.3, 0.3, 0.3], 0),  # the step cuts its crops
    ("cpu", False, [0.9, 0.9, 0.9, 0.9], 0),
  ],
)
def test_waiting_for_data_is_told_once_it_lasts_and_not_of_a_cpu(
  platform, on_device, waits, advised, monkeypatch
):
  stages = types.SimpleNamespace(advice=lambda share: f"waiting {share:.0%}")
  monkeypatch.setattr(diagnosis, "measure_stages", lambda *_: stages)
  monkeypatch.setattr(reports_module, "is_on_device", lambda *_: on_device)
  told = Told(monkeypatch, platform)
  for lap, wait in enumerate(waits):
    told.lap(20 * (lap + 1), [5.0], waited=wait)
  assert told.lines == ["waiting 30%"] * advised


def test_a_selection_is_told_in_plain_words(told):
  told.lap(10, [5.0])
  told.reports.selection(1, FIGURES | {"positives_precision": 0.96}, is_first=True)
  told.reports.selection(6, dict(FIGURES), is_first=False)
  first, jumps, second = told.lines
  assert first == (
    "selection at epoch 1: 7.7 similar images for each image; 3% have none and use the "
    "plain loss; 96% share the label; 6.0 s, compiling included"
  )
  assert "may jump" in jumps
  assert second.endswith("use the plain loss; 6.0 s")
  assert told.lap(20, [5.0])["selection/share_of_epoch"] == pytest.approx(6.04)


def test_a_table_without_positives_mixes_nothing(told):
  told.reports.selection(1, FIGURES | {"mean_positives": 0.0}, is_first=True)
  assert not any("jump" in line for line in told.lines)
