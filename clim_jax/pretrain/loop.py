"""The pretraining loop.

Order within a step: refresh the selection if due → batch → step → log the step
before → checkpoint. A refresh depends on nothing but the state and the epoch, so a
restored run refreshes as the uninterrupted one would have.
"""

import math
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from clim_jax import sharding
from clim_jax.data.diagnosis import measure_stages
from clim_jax.data.pipeline import train_batches
from clim_jax.evaluate.features import FeatureExtractor
from clim_jax.evaluate.online import online_probes
from clim_jax.experiment.checkpoints import Checkpoint, Checkpoints
from clim_jax.experiment.experiment import Experiment, train_labels
from clim_jax.method.batch import Batch
from clim_jax.method.state import TrainState
from clim_jax.pretrain.counted_step import CountedStep, peak_flops
from clim_jax.pretrain.logs import MetricLog, Scalars
from clim_jax.pretrain.meter import Meter
from clim_jax.pretrain.progress import TrainProgress
from clim_jax.selection.positives import Positives

_MUCH_WAITING = 0.1  # share of the time; beyond it the run says why


class Loop:
  """Runs from one selection refresh to the next until the last step."""

  def __init__(
    self,
    experiment: Experiment,
    checkpoints: Checkpoints,
    log: MetricLog | None,
    progress: TrainProgress,
    extractor: FeatureExtractor,
  ) -> None:
    self._experiment, self._config = experiment, experiment.config
    self._checkpoints, self._log, self._progress = checkpoints, log, progress
    self._stream = experiment.stream
    self._extractor = extractor
    self._counted_step = CountedStep(experiment.train_step())
    self._learning_rate = experiment.learning_rate
    self._selection_figures: Scalars = {}
    devices = experiment.mesh.devices
    self._meter = Meter(
      self._config.batch_size,
      num_devices=devices.size,
      peak_flops=peak_flops(devices.flat[0].device_kind),
    )
    self._laps, self._diagnosed = 0, False
    self._online_probes = online_probes(experiment)
    if self._online_probes is None and self._config.online.every_epochs:
      progress.note("no online probes: they need labels and test images")
    self._online_figures: Scalars = {}

  def run(self, now: Checkpoint, step: int) -> Checkpoint:
    total = self._experiment.total_steps
    while step < total:
      epoch, within = divmod(step, self._stream.steps_per_epoch)
      if within == 0 and self._refresh_is_due(epoch):
        now = self._refresh(now, epoch)
      next_epoch = self._next_refresh(epoch)
      stop = min(next_epoch * self._stream.steps_per_epoch, total)
      now = self._train(now, step, stop)
      step = stop
    return now

  def _refresh_is_due(self, epoch: int) -> bool:
    selection = self._config.selection
    since_warmup = epoch - selection.warmup_epochs
    due = since_warmup >= 0 and since_warmup % selection.refresh_epochs == 0
    return selection.rule != "none" and due

  def _next_refresh(self, epoch: int) -> int:
    """First epoch after `epoch` with a refresh, or the end."""
    later = range(epoch + 1, self._config.epochs)
    return next(filter(self._refresh_is_due, later), self._config.epochs)

  def _refresh(self, now: Checkpoint, epoch: int) -> Checkpoint:
    """Selects positives by the momentum encoder's features of the whole set."""
    started = time.perf_counter()
    bank = self._extractor.bank(now.state.key_params, now.state.key_stats)
    positives, figures, _ = self._experiment.selection(
      self._experiment.mesh,
      bank,
      num_images=self._experiment.train.num_images,
      epoch=epoch,
      labels=train_labels(self._experiment),
      previous=now.positives,
    )
    seconds = time.perf_counter() - started
    figures["seconds"] = seconds
    epoch_seconds = self._meter.seconds_per_step() * self._stream.steps_per_epoch
    figures["share_of_epoch"] = seconds / epoch_seconds
    self._selection_figures = {f"selection/{k}": v for k, v in figures.items()}
    self._progress.note(
      f"selection at epoch {epoch}: {figures['mean_positives']:.1f} positives an "
      f"anchor, {figures['empty_share']:.0%} without; {seconds:.1f} s"
    )
    return now._replace(positives=positives)

  def _train(self, now: Checkpoint, step: int, stop: int) -> Checkpoint:
    """Steps `step` … `stop` − 1 with one table of positives."""
    batches = self._device_batches(step, stop, now.positives)
    every = self._config.checkpoint.every_epochs * self._stream.steps_per_epoch
    pending = None  # metrics of the step before, fetched once the next is under way
    while step < stop:
      batch = self._meter.wait(batches)
      state, metrics = self._counted_step(now.state, batch)
      now = now._replace(state=state)
      step += 1
      self._progress.advance(step)
      if pending is not None:
        self._report(*pending)
      last = step == self._experiment.total_steps
      is_logged = step % self._config.log.every_steps == 0 or self._is_probed(step)
      pending = (step, metrics) if is_logged or last else None
      if step % every == 0 or last:
        self._checkpoints.save(step, now)
      self._probe(step, now.state)
    if pending is not None:
      self._report(*pending)
    jax.block_until_ready(now.state)  # so that a refresh is not billed for these steps
    self._meter.pause()
    return now

  def _is_probed(self, step: int) -> bool:
    every = self._config.online.every_epochs * self._stream.steps_per_epoch
    return self._online_probes is not None and step % every == 0

  def _probe(self, step: int, state: TrainState) -> None:
    """Online probes if they are due; the next record has their figures."""
    if not self._is_probed(step):
      return
    jax.block_until_ready(state)  # so that the probes are not billed for this step
    self._meter.pause()
    figures = self._online_probes(state.query_params, state.query_stats)
    epoch = step // self._stream.steps_per_epoch
    self._online_figures = {f"online/{k}": v for k, v in figures.items()}
    self._online_figures["online/epoch"] = epoch
    self._progress.note(
      f"online probes at epoch {epoch}: kNN {figures['knn_top1']:.1%}, linear "
      f"{figures['linear_top1']:.1%}; {figures['seconds']:.1f} s"
    )

  def _device_batches(
    self, step: int, stop: int, positives: Positives | None
  ) -> Iterator[Batch]:
    mesh = self._experiment.mesh
    for batch in train_batches(
      self._experiment.train,
      self._stream,
      self._experiment.view_plan,
      first_step=step,
      last_step=stop,
      positives=positives,
      rows=sharding.process_rows(mesh, self._config.batch_size),
    ):
      yield sharding.put_rows(mesh, batch)

  def _report(self, step: int, metrics: dict[str, jnp.ndarray]) -> None:
    values = {name: float(value) for name, value in jax.device_get(metrics).items()}
    if not math.isfinite(values["loss"]):
      raise FloatingPointError(
        f"loss is {values['loss']} at step {step}; lower optimizer.learning_rate "
        f"({self._config.optimizer.learning_rate}) or use model.dtype=float32, then "
        f"go on from the newest checkpoint (step {self._checkpoints.newest()})"
      )
    epoch = step / self._stream.steps_per_epoch
    # With gradient accumulation the compiler counts one part of several.
    single = self._config.optimizer.accumulate_steps == 1
    speed = self._meter.lap(self._counted_step.flops if single else None)
    self._diagnose(speed["data_wait_fraction"])
    self._progress.figures(
      step,
      epoch=epoch,
      loss=values["loss"],
      images_per_second=speed["images_per_second"],
    )
    if self._log is not None:
      learning_rate = float(self._learning_rate(step - 1))
      record = {"epoch": epoch, "learning_rate": learning_rate} | values | speed
      record["bad_images"] = len(self._experiment.train.stand_ins)
      self._log.write(step, record | self._selection_figures | self._online_figures)
    self._online_figures = {}

  def _diagnose(self, wait_fraction: float) -> None:
    """Says once why the step waits, if it does; the first lap fills the pipeline."""
    self._laps += 1
    if self._laps < 2 or self._diagnosed or wait_fraction <= _MUCH_WAITING:
      return
    self._diagnosed = True
    stages = measure_stages(self._experiment.train, self._experiment.view_plan)
    self._progress.note(stages.advice(wait_fraction))
