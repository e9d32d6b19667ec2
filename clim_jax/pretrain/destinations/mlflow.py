"""Runs of MLflow; `MLFLOW_TRACKING_URI` and `MLFLOW_EXPERIMENT_NAME` are heard."""

import os
import time
from collections.abc import Mapping

import numpy as np

from clim_jax.pretrain.destinations.destination import PROJECT, Session

_PARAMS_AT_ONCE = 100  # MLflow's limit


class MlflowRun:
  """One session of a run there."""

  def __init__(self, session: Session) -> None:
    import mlflow

    self._entities, self._client = mlflow.entities, mlflow.MlflowClient()
    self.run_id = session.run_id
    if self.run_id:
      self._client.update_run(self.run_id, status="RUNNING")
    else:
      self.run_id = self._create(session)

  def _create(self, session: Session) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
    experiment = self._client.get_experiment_by_name(name)
    if experiment is None:
      experiment_id = self._client.create_experiment(name)
    else:
      experiment_id = experiment.experiment_id
    run = self._client.create_run(experiment_id, run_name=session.workdir.name)
    params = [
      self._entities.Param(key, str(value)) for key, value in session.config.items()
    ]
    for first in range(0, len(params), _PARAMS_AT_ONCE):
      some = params[first : first + _PARAMS_AT_ONCE]
      self._client.log_batch(run.info.run_id, params=some)
    return run.info.run_id

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    now = round(1000 * time.time())
    metrics = [
      self._entities.Metric(name, float(value), now, step)
      for name, value in scalars.items()
    ]
    self._client.log_batch(self.run_id, metrics=metrics)

  def show(self, step: int, name: str, picture: np.ndarray) -> None:
    self._client.log_image(self.run_id, picture, key=name, step=step)

  def close(self, *, finished: bool) -> None:
    self._client.set_terminated(self.run_id, "FINISHED" if finished else "KILLED")
