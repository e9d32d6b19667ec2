"""Runs of Trackio; `TRACKIO_PROJECT`, `TRACKIO_DIR`, `TRACKIO_SPACE_ID` are heard."""

import os
import uuid
from collections.abc import Mapping

import numpy as np

from clim_jax.pretrain.destinations.destination import PROJECT, Session


class TrackioRun:
  """One session of a run there, which is known by its name."""

  def __init__(self, session: Session) -> None:
    import trackio

    # Two runs of folders that are called alike are two runs.
    new = f"{session.workdir.name}-{uuid.uuid4().hex[:6]}"
    self.run_id, self._image = session.run_id or new, trackio.Image
    self._run = trackio.init(
      project=os.environ.get("TRACKIO_PROJECT", PROJECT),
      name=self.run_id,
      resume="allow",
      config=session.config,
      embed=False,  # no dashboard within a notebook
    )

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    self._run.log(dict(scalars), step=step)

  def show(self, step: int, name: str, picture: np.ndarray) -> None:
    self._run.log({name: self._image(picture)}, step=step)

  def close(self, *, finished: bool) -> None:
    self._run.finish()
