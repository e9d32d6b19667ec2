"""What is said and logged of a run: laps, selections, online probes."""

import math
from collections.abc import Callable

import jax
import numpy as np

from clim_jax.data.place import is_on_device
from clim_jax.experiment.experiment import Experiment
from clim_jax.method.objective import Metrics
from clim_jax.pretrain import gallery
from clim_jax.pretrain.counted_step import peak_flops
from clim_jax.pretrain.learning import Learning
from clim_jax.pretrain.logs import MetricLog, Scalars
from clim_jax.pretrain.meter import Meter
from clim_jax.pretrain.phases import Phases
from clim_jax.pretrain.progress import TrainProgress
from clim_jax.selection.record import make_record
from clim_jax.selection.refresh import RowsOnHost

_MUCH_WAITING = 0.25  # share of the time; beyond it, in each of
_WAITING_LAPS = 3  # one after the other, the run says why


class Reports:
  """Turns what the loop measures into lines for people and records for the log."""

  def __init__(
    self,
    experiment: Experiment,
    log: MetricLog | None,
    progress: TrainProgress,
    newest_checkpoint: Callable[[], int | None],
    *,
    first_step: int,
  ) -> None:
    self._experiment, self._log, self._progress = experiment, log, progress
    self._newest_checkpoint = newest_checkpoint
    self._learning_rate = experiment.learning_rate
    devices = experiment.mesh.devices
    self._platform = devices.flat[0].platform
    self.meter = Meter(
      experiment.config.batch_size,
      first_step=first_step,
      num_devices=devices.size,
      peak_flops=peak_flops(devices.flat[0].device_kind),
    )
    self._learning = Learning(experiment.config, log.kept if log else [])
    self.phases = Phases("steps")
    selection = experiment.config.selection
    if selection.rule != "none" and not first_step:
      progress.latest("selection", f"warm-up until epoch {selection.warmup_epochs}")
    self._waiting_laps = 0  # in a row
    self._refreshes: list[float] = []  # seconds of each
    self._of_selection: Scalars = {}
    self._of_probes: Scalars = {}

  def lap(self, step: int, lap: list[Metrics], flops: float, refreshes: int) -> None:
    """Means over the steps of a lap.

    Args:
      step: the last of them.
      lap: metrics of each.
      flops: of one device in one step, as `count_flops` has them.
      refreshes: selections that are still to come.

    Raises:
      FloatingPointError: a loss is not finite.
    """
    by_step = jax.device_get(lap)
    stream = self._experiment.stream
    speed = self.meter.lap(step, flops)
    self.check_finite(step, by_step)
    values = {
      name: float(np.mean([m[name] for m in by_step if name in m], dtype=np.float64))
      for name in by_step[-1]
    }
    record = {
      "epoch": step / stream.steps_per_epoch,
      "learning_rate": float(self._learning_rate(step - 1)),
    }
    record |= values | speed
    record["bad_images"] = len(self._experiment.train.stand_ins)
    self._diagnose_input(speed.get("data_wait_fraction", 0.0))
    left = (self._experiment.total_steps - step) * self.meter.seconds_per_step()
    if len(self._refreshes) > 1:  # the first of a session compiles, and tells nothing
      left += refreshes * self._refreshes[-1]
    self._progress.figures(step, record, seconds_left=left)
    for text in self._learning.add({"step": step} | record):
      self._progress.warn(text)
    if self._log is not None:
      self._log.write(step, record | self._of_selection | self._of_probes)
    self._of_probes = {}

  def keep(self, step: int, epoch: int, found: RowsOnHost) -> None:
    """What a refresh after `step` updates found, to be looked at."""
    record = make_record(epoch, found, num_images=self._experiment.train.num_images)
    if self._log is not None:
      self._log.keep(record)
    if not self._experiment.config.log.destinations:
      return
    picture = gallery.picture(self._experiment, record)  # by all processes together
    if self._log is not None and picture is not None:
      self._log.show(step, gallery.NAME, picture)

  def selection(self, epoch: int, figures: Scalars, *, is_first: bool) -> None:
    """Figures of a refresh, `seconds` among them; `is_first`: none before had any."""
    epoch_seconds = (
      self.meter.seconds_per_step() * self._experiment.stream.steps_per_epoch
    )
    figures["share_of_epoch"] = figures["seconds"] / epoch_seconds
    self._of_selection = {f"selection/{k}": v for k, v in figures.items()}
    self._refreshes.append(figures["seconds"])
    self._progress.latest("selection", f"selected at epoch {epoch}")
    parts = [
      f"{figures['mean_positives']:.1f} similar images for each image",
      f"{figures['empty_share']:.0%} have none and use the plain loss",
    ]
    if math.isfinite(figures.get("positives_precision", math.nan)):
      parts.append(f"{figures['positives_precision']:.0%} share the label")
    first = ", compiling included" if len(self._refreshes) == 1 else ""
    parts.append(f"{figures['seconds']:.1f} s{first}")
    self._progress.note(f"selection at epoch {epoch}: {'; '.join(parts)}")
    if is_first and figures["mean_positives"] > 0:
      self._progress.note(
        "from here on the loss has a second part, of images mixed with similar "
        "ones, and may jump: that is no divergence"
      )

  def probes(self, epoch: int, figures: Scalars) -> Scalars:
    """Figures of online probes; the next record has them, by the names returned."""
    self._of_probes = {f"online/{k}": v for k, v in figures.items()}
    self._of_probes["online/epoch"] = epoch
    self._progress.latest("probe", f"kNN {figures['knn_top1']:.1%} at epoch {epoch}")
    self._progress.note(
      f"online probes at epoch {epoch}: kNN {figures['knn_top1']:.1%}, linear "
      f"{figures['linear_top1']:.1%}; {figures['seconds']:.1f} s"
    )
    return self._of_probes

  def best(self, name: str, step: int) -> None:
    """A checkpoint that stays until a better one comes."""
    self._progress.note(f"step {step} is kept: the best so far by {name}")

  def check_finite(self, step: int, lap: list[Metrics]) -> None:
    """Raises FloatingPointError if a loss of the steps up to `step` is not finite."""
    losses = [float(metrics["loss"]) for metrics in jax.device_get(lap)]
    for ago, loss in zip(reversed(range(len(losses))), losses, strict=True):
      if not math.isfinite(loss):
        raise self.diverged(f"loss is {loss} at step {step - ago}")

  def diverged(self, what: str) -> FloatingPointError:
    """To be raised; with what to do, and a step that is whole on disk."""
    newest = self._newest_checkpoint()
    from_where = (
      "no checkpoint was saved: begin anew"
      if newest is None
      else f"go on from the newest checkpoint (step {newest}) by the same command"
    )
    rate = self._experiment.config.optimizer.learning_rate
    return FloatingPointError(
      f"{what}; lower optimizer.learning_rate ({rate}) or use model.dtype=float32; "
      f"{from_where}"
    )

  def _diagnose_input(self, wait_fraction: float) -> None:
    """Says once why the step waits, if it does, lap after lap.

    Not where the device is a CPU: input and step share its cores there. Nor where it
    cuts the crops, which then are no input.
    """
    if self._platform == "cpu" or self._waiting_laps == _WAITING_LAPS:
      return
    source = self._experiment.train
    if is_on_device(source, self._experiment.mesh):
      return
    waits = wait_fraction > _MUCH_WAITING
    self._waiting_laps = self._waiting_laps + 1 if waits else 0
    if self._waiting_laps == _WAITING_LAPS:
      from clim_jax.data.diagnosis import measure_stages  # TensorFlow

      stages = measure_stages(source, self._experiment.view_plan)
      self._progress.note(stages.advice(wait_fraction))
