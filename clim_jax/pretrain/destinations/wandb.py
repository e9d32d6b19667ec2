"""Runs of Weights & Biases; `WANDB_PROJECT`, `WANDB_MODE` and the like are heard."""

import os
import uuid
from collections.abc import Mapping

import numpy as np

from clim_jax.pretrain.destinations.destination import PROJECT, Session


class WandbRun:
  """One session of a run there; offline it lies below ./wandb until `wandb sync`."""

  def __init__(self, session: Session) -> None:
    import wandb

    self.run_id = session.run_id or uuid.uuid4().hex[:12]
    self._image = wandb.Image
    self._run = wandb.init(
      project=os.environ.get("WANDB_PROJECT", PROJECT),
      name=session.workdir.name,
      id=self.run_id,
      resume="allow",
      config=session.config,
      allow_val_change=True,  # what may change between the sessions of a run
    )

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    self._run.log(dict(scalars), step=step)

  def show(self, step: int, name: str, picture: np.ndarray) -> None:
    self._run.log({name: self._image(picture)}, step=step)

  def close(self, *, finished: bool) -> None:
    self._run.finish(exit_code=0 if finished else 1)
