"""The pretraining loop.

Order within a step: refresh the selection if due → batch → step → report the lap that
ended a step before → checkpoint → leave if asked to. A refresh depends on nothing but
the state and the epoch: a restored run refreshes as the uninterrupted one would have.
"""

import time
from collections.abc import Iterator
from typing import NoReturn

import jax
from jax.experimental import multihost_utils

from clim_jax.data.array_crops import UncutBatch
from clim_jax.evaluate.features import FeatureExtractor
from clim_jax.evaluate.online import online_probes
from clim_jax.experiment.checkpoints import Checkpoint, Checkpoints
from clim_jax.experiment.experiment import Experiment, train_labels
from clim_jax.method.batch import Batch
from clim_jax.method.objective import Metrics
from clim_jax.method.state import TrainState, is_finite
from clim_jax.pretrain.counted_step import CountedStep
from clim_jax.pretrain.interruption import Interrupted, Interruption
from clim_jax.pretrain.logs import Scalars
from clim_jax.pretrain.progress import TrainProgress
from clim_jax.pretrain.reports import Reports
from clim_jax.selection.rank import rank_me

# Steps under way when the devices are given one more: else the host would run ahead to
# the next log, with a batch in their memory for every step.
_AHEAD = 2


class Loop:
  """Runs from one selection refresh to the next until the last step."""

  def __init__(
    self,
    experiment: Experiment,
    checkpoints: Checkpoints,
    reports: Reports,
    progress: TrainProgress,
    extractor: FeatureExtractor,
    interruption: Interruption,
  ) -> None:
    self._experiment, self._config = experiment, experiment.config
    self._checkpoints, self._reports, self._progress = checkpoints, reports, progress
    self._stream, self._meter = experiment.stream, reports.meter
    self._extractor, self._interruption = extractor, interruption
    self._saved_at = time.monotonic()
    self._counted_step = CountedStep(experiment.train_step())
    self._lap: list[Metrics] = []  # of the steps since the last report
    self._online_probes = online_probes(experiment)
    if self._online_probes is None and self._config.online.every_epochs:
      so = ", and no best checkpoint by them" * bool(self._config.checkpoint.best)
      progress.note(f"no online probes{so}: they need labels and test images")

  def run(self, now: Checkpoint, step: int) -> Checkpoint:
    total = self._experiment.total_steps
    while step < total:
      epoch, within = divmod(step, self._stream.steps_per_epoch)
      if within == 0 and self._experiment.selects_at(epoch):
        now = self._refresh(now, step, epoch)
      next_epoch = next(self._refreshes_after(epoch), self._config.epochs)
      stop = min(next_epoch * self._stream.steps_per_epoch, total)
      now = self._train(now, step, stop)
      step = stop
    return now

  def _refreshes_after(self, epoch: int) -> Iterator[int]:
    """Epochs after `epoch` with a refresh."""
    return filter(self._experiment.selects_at, range(epoch + 1, self._config.epochs))

  def _refresh(self, now: Checkpoint, step: int, epoch: int) -> Checkpoint:
    """A selection; a signal in its midst saves the state, which selects anew."""
    try:
      with self._interruption.at_once(), self._reports.phases("selections"):
        return self._select(now, step, epoch)
    except Interrupted:
      self._leave(now, step)

  def _select(self, now: Checkpoint, step: int, epoch: int) -> Checkpoint:
    """Selects positives by the momentum encoder's features of the whole set."""
    started = time.perf_counter()
    self._progress.selecting()
    bank = self._extractor.bank(now.state.key_params, now.state.key_stats)
    positives, figures, found = self._experiment.selection(
      self._experiment.mesh,
      bank,
      num_images=self._experiment.train.num_images,
      epoch=epoch,
      labels=train_labels(self._experiment),
      previous=now.positives,
    )
    figures["rank_me"] = rank_me(
      self._experiment.mesh, bank, self._experiment.train.num_images
    )
    figures["seconds"] = time.perf_counter() - started
    self._reports.selection(epoch, figures, is_first=now.positives is None)
    self._reports.keep(step, epoch, found)
    return now._replace(positives=positives)

  def _train(self, now: Checkpoint, step: int, stop: int) -> Checkpoint:
    """Steps `step` … `stop` − 1 with one table of positives."""
    batches = self._experiment.batches(step, stop, now.positives)
    pending = None  # a lap, fetched once the next step is under way
    while step < stop:
      batch = self._meter.wait(batches)
      if len(self._lap) >= _AHEAD:
        jax.block_until_ready(self._lap[-_AHEAD])
      step += 1
      state, metrics = self._update(now.state, batch, step)
      now = now._replace(state=state)
      self._lap.append(metrics)
      self._progress.advance(step)
      if pending is not None:
        self._report(*pending)
      last = step == self._experiment.total_steps
      is_logged = step % self._config.log.every_steps == 0 or self._is_probed(step)
      pending = None
      if is_logged or last:
        pending, self._lap = (step, self._lap), []
      leaves = self._interruption.asked(step)
      # Figures of probes are of this step's record.
      figures = {} if leaves else self._probe(step, now.state)
      is_best = self._is_best(figures)
      if self._is_saved(step, is_logged) or is_best or leaves:
        if pending is not None:
          self._report(*pending)
          pending = None
        self._save(now, step, figures)
      if is_best:
        self._reports.best(self._config.checkpoint.best, step)
      if leaves:
        self._leave(now, step)
    if pending is not None:
      self._report(*pending)
    jax.block_until_ready(now.state)  # so that a refresh is not billed for these steps
    self._meter.pause()
    return now

  def _is_saved(self, step: int, is_logged: bool) -> bool:
    """Whether a checkpoint is due after `step`, the same in all processes."""
    checkpoint = self._config.checkpoint
    every = checkpoint.every_epochs * self._stream.steps_per_epoch
    if step % every == 0 or step == self._experiment.total_steps:
      return True
    minutes = (time.monotonic() - self._saved_at) / 60
    is_time = 0 < checkpoint.every_minutes <= minutes
    if jax.process_count() == 1 or not checkpoint.every_minutes:
      return is_time
    # Clocks differ, and to ask process 0 takes time.
    return is_logged and bool(multihost_utils.broadcast_one_to_all(is_time))

  def _is_best(self, figures: Scalars) -> bool:
    """Whether the figure to keep the best by is above all before, in all processes."""
    name = self._config.checkpoint.best if figures else ""
    if not name:
      return False
    best = self._checkpoints.best()
    is_best = best is None or figures[name] > best.value
    if jax.process_count() == 1:
      return is_best
    return bool(multihost_utils.broadcast_one_to_all(is_best))

  def _save(self, now: Checkpoint, step: int, figures: Scalars) -> None:
    """Saves what is there after `step`; raises if it is not finite."""
    self._reports.check_finite(step, self._lap)
    if not is_finite(now.state):
      raise self._reports.diverged(f"parameters are not finite after step {step}")
    self._checkpoints.save(step, now, figures)
    self._saved_at = time.monotonic()

  def _leave(self, now: Checkpoint, step: int) -> NoReturn:
    if not step:
      raise self._interruption.ended("before the first step: nothing is lost")
    self._save(now, step, {})
    self._checkpoints.wait()
    raise self._interruption.ended(
      f"saved after step {step} of {self._experiment.total_steps}; the same command "
      "goes on from there"
    )

  def _report(self, step: int, lap: list[Metrics]) -> None:
    refreshes = len(list(self._refreshes_after(step // self._stream.steps_per_epoch)))
    self._reports.lap(step, lap, self._counted_step.flops, refreshes)

  def _is_probed(self, step: int) -> bool:
    every = self._config.online.every_epochs * self._stream.steps_per_epoch
    return self._online_probes is not None and step % every == 0

  def _probe(self, step: int, state: TrainState) -> Scalars:
    """Online probes if they are due; their figures by their names in the log."""
    if not self._is_probed(step):
      return {}
    jax.block_until_ready(state)  # so that the probes are not billed for this step
    self._meter.pause()
    with self._reports.phases("probes"):
      figures = self._online_probes(state.query_params, state.query_stats)
    return self._reports.probes(step // self._stream.steps_per_epoch, figures)

  def _update(
    self, state: TrainState, batch: Batch | UncutBatch, step: int
  ) -> tuple[TrainState, Metrics]:
    """Update number `step`."""
    if self._counted_step.knows(state, batch):
      return self._counted_step(state, batch)
    self._progress.compiling()
    with self._reports.phases("compiling"):
      state, metrics = jax.block_until_ready(self._counted_step(state, batch))
    self._meter.leave_out(step)  # neither speed nor time left shall hang on it
    return state, metrics
