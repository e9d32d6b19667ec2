"""Pretraining from the newest checkpoint, or from the start."""

import jax
import jax.numpy as jnp
from etils import epath
from rich.console import Console

from clim_jax.evaluate.features import FeatureExtractor
from clim_jax.experiment.checkpoints import Checkpoint, Checkpoints
from clim_jax.experiment.experiment import Experiment
from clim_jax.experiment.runs import with_weights
from clim_jax.method.state import TrainState
from clim_jax.pretrain.learning import chance_loss
from clim_jax.pretrain.logs import MetricLog
from clim_jax.pretrain.loop import Loop
from clim_jax.pretrain.progress import TrainProgress
from clim_jax.pretrain.reports import Reports


def pretrain(
  experiment: Experiment, workdir: epath.Path, console: Console
) -> TrainState:
  """Trains to the end from the newest checkpoint of `workdir`, or from the start.

  Raises:
    FloatingPointError: the loss is not finite; checkpoints stay as they are.
  """
  config = experiment.config
  checkpoints = Checkpoints(workdir / "checkpoints", keep=config.checkpoint.keep)
  extractor = FeatureExtractor(experiment, experiment.train)
  start = Checkpoint(experiment.init_state(), None)
  newest = checkpoints.newest()
  if newest is not None:
    start = checkpoints.restore(newest, start.state)
    console.print(f"resuming from step {newest}")
  elif config.model.weights:
    start = start._replace(state=_with_weights(experiment, start.state, console))
  first_step = newest or 0
  log = None
  if jax.process_index() == 0:
    log = MetricLog(workdir, resume_step=first_step, tensorboard=config.log.tensorboard)
  progress = TrainProgress(
    console,
    first_step=first_step,
    total_steps=experiment.total_steps,
    epochs=config.epochs,
    chance_loss=chance_loss(config.moco.queue_size),
  )
  if log is not None and log.unreadable:
    progress.warn(
      f"metrics.jsonl: {log.unreadable} lines could not be read, as a process leaves "
      "the last one when it is killed, and are dropped"
    )
  try:
    with progress:
      reports = Reports(
        experiment, log, progress, checkpoints.newest, first_step=first_step
      )
      loop = Loop(experiment, checkpoints, reports, progress, extractor)
      return loop.run(start, first_step).state
  finally:  # the last checkpoint is whole also where the loss was not finite
    checkpoints.close()
    if log is not None:
      log.close()


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
