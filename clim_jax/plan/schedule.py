"""What a run does from its first to its last step, and how often."""

import dataclasses

from clim_jax.experiment.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Schedule:
  """Counts; steps are plain before the first selection, and mixed after it."""

  epochs: int
  steps_per_epoch: int
  images_left_over: int  # in each epoch, since they fill no batch
  plain_steps: int
  mixed_steps: int
  selections: int
  saves: int  # by epochs; those by minutes come on top
  saves_kept: int  # at most, one that is being written included

  @property
  def steps(self) -> int:
    return self.plain_steps + self.mixed_steps

  @property
  def by_kind(self) -> dict[str, int]:
    """How many steps there are of each kind that there are any of."""
    counts = {"plain": self.plain_steps, "mixed": self.mixed_steps}
    return {kind: steps for kind, steps in counts.items() if steps}


def schedule_of(experiment: Experiment) -> Schedule:
  """That of a run from its start."""
  config, stream = experiment.config, experiment.stream
  selected = [e for e in range(config.epochs) if experiment.selects_at(e)]
  plain_epochs = selected[0] if selected else config.epochs
  every, keep = config.checkpoint.every_epochs, config.checkpoint.keep
  saves = -(-config.epochs // every)  # the last step is saved anyhow
  # The newest stay besides, as the last step may be; and one is being written.
  at_once = max(keep, 2) + (config.epochs % every > 0) + 1
  if config.checkpoint.every_minutes:
    at_once += 2
  else:
    at_once = min(at_once, saves)
  return Schedule(
    epochs=config.epochs,
    steps_per_epoch=stream.steps_per_epoch,
    images_left_over=stream.num_images % stream.batch_size,
    plain_steps=plain_epochs * stream.steps_per_epoch,
    mixed_steps=(config.epochs - plain_epochs) * stream.steps_per_epoch,
    selections=len(selected),
    saves=saves,
    saves_kept=at_once,
  )
