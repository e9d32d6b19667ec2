"""Pretraining from the newest good checkpoint, or from the start."""

import contextlib
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
from etils import epath
from jax.experimental import multihost_utils
from rich.console import Console

from clim_jax.evaluate.features import FeatureExtractor
from clim_jax.experiment import configuration, images
from clim_jax.experiment.cautions import warn
from clim_jax.experiment.checkpoints import Checkpoint, Checkpoints
from clim_jax.experiment.configuration import Change
from clim_jax.experiment.experiment import Experiment
from clim_jax.experiment.runs import with_weights
from clim_jax.experiment.workdir import append_session
from clim_jax.method.state import TrainState
from clim_jax.pretrain.destinations.sender import open_senders
from clim_jax.pretrain.interruption import Interruption
from clim_jax.pretrain.learning import chance_loss
from clim_jax.pretrain.logs import MetricLog
from clim_jax.pretrain.loop import Loop
from clim_jax.pretrain.progress import TrainProgress
from clim_jax.pretrain.reports import Reports


def pretrain(
  experiment: Experiment,
  workdir: epath.Path,
  console: Console,
  changes: Sequence[Change] = (),
) -> TrainState:
  """Trains to the end from the newest good checkpoint of `workdir`, or from the start.

  Args:
    experiment: what to train.
    workdir: where the run lives.
    console: for what is said.
    changes: of the config since the session before.

  Raises:
    FloatingPointError: the run is not finite; checkpoints stay as they are.
    Interrupted: a signal has stopped the run, which is saved.
    ConfigError: there are checkpoints and none is good.
  """
  config = experiment.config
  with contextlib.ExitStack() as stack:
    checkpoints = stack.enter_context(
      Checkpoints(
        workdir / "checkpoints",
        keep=config.checkpoint.keep,
        every=config.checkpoint.every_epochs * experiment.stream.steps_per_epoch,
        best=config.checkpoint.best,
      )
    )
    extractor = FeatureExtractor(experiment, experiment.train)
    first_step, start = _start(experiment, checkpoints, console)
    best = checkpoints.best()
    log = None
    multihost_utils.sync_global_devices("read")  # before process 0 writes
    if jax.process_index() == 0:
      images.save(experiment.train, workdir / images.FILE)
      append_session(workdir, first_step, changes, best)
      configuration.save(config, workdir / "config.json")
      log = stack.enter_context(MetricLog(workdir, resume_step=first_step))
      log.send_to(
        open_senders(
          config,
          workdir,
          first_step=first_step,
          last_step=log.last_step,
          tell=lambda text: warn(console, [text]),
        )
      )
      warn(console, _losses(log, first_step, config.log.every_steps))
    progress = stack.enter_context(
      TrainProgress(
        console,
        first_step=first_step,
        total_steps=experiment.total_steps,
        epochs=config.epochs,
        chance_loss=chance_loss(config.moco.queue_size),
      )
    )
    reports = Reports(
      experiment, log, progress, checkpoints.newest, first_step=first_step
    )
    interruption = stack.enter_context(Interruption())
    loop = Loop(experiment, checkpoints, reports, progress, extractor, interruption)
    state = loop.run(start, first_step).state
    progress.note(reports.phases.summary())
    if best := checkpoints.best():
      progress.note(
        f"best by {config.checkpoint.best}: step {best.step}, {best.value:.1%}; "
        "evaluation.best=True judges it"
      )
    return state


def _start(
  experiment: Experiment, checkpoints: Checkpoints, console: Console
) -> tuple[int, Checkpoint]:
  """Updates done, and what is there after them."""
  state = experiment.init_state()
  restored = checkpoints.restore_newest(state)
  if restored is None:
    if experiment.config.model.weights:
      state = _with_weights(experiment, state, console)
    return 0, Checkpoint(state, None)
  step, checkpoint, faults = restored
  warn(
    console,
    (
      f"the checkpoint of step {bad} is damaged ({fault}); it now lies in damaged/, "
      f"and the run goes on from step {step}"
      for bad, fault in faults.items()
    ),
  )
  console.print(f"resuming from step {step}")
  return step, checkpoint


def _losses(log: MetricLog, first_step: int, every: int) -> Iterator[str]:
  """What an earlier session wrote and this one cannot go on from."""
  if log.unreadable:
    yield (
      "metrics.jsonl: lines that cannot be read, as a process leaves the last one when "
      f"it is killed, are dropped: {log.unreadable}"
    )
  last = log.kept[-1]["step"] if log.kept else 0
  if first_step - last >= every:
    yield (
      f"metrics.jsonl has no record after step {last}, and the run goes on from step "
      f"{first_step}: those between are lost, and its curves have a gap"
    )
  if log.beyond and not first_step:
    yield (
      f"metrics.jsonl has {log.beyond} records and there is no checkpoint: the run "
      "begins anew, and they are dropped"
    )


def _with_weights(
  experiment: Experiment, state: TrainState, console: Console
) -> TrainState:
  """The state with the weights of a file in both encoders."""
  initial = {"params": state.query_params, "batch_stats": state.query_stats}
  filled, _ = with_weights(experiment.config, initial, experiment.mesh, console)
  params, stats = filled["params"], filled["batch_stats"]
  # A step consumes its state, so the two encoders may not share arrays.
  return state.replace(
    query_params=params,
    query_stats=stats,
    key_params=jax.tree.map(jnp.copy, params),
    key_stats=jax.tree.map(jnp.copy, stats),
  )
