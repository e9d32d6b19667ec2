"""Sends what a run shows to the destinations it names; none of them can stop it."""

import concurrent.futures
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from clim_jax.experiment.checkpoints import first_line
from clim_jax.experiment.configuration import ConfigError
from clim_jax.experiment.keys import flatten
from clim_jax.pretrain.destinations.destination import Destination, Session
from clim_jax.pretrain.destinations.mlflow import MlflowRun
from clim_jax.pretrain.destinations.tensorboard import EventFile
from clim_jax.pretrain.destinations.trackio import TrackioRun
from clim_jax.pretrain.destinations.wandb import WandbRun
from clim_jax.whole import written_whole

FILE = "destinations.json"  # in a workdir: the run's id at each destination
# By what it is called; the library that it needs has the same name.
KINDS: dict[str, Callable[[Session], Destination]] = {
  "tensorboard": EventFile,
  "wandb": WandbRun,
  "mlflow": MlflowRun,
  "trackio": TrackioRun,
}
Tell = Callable[[str], None]


def check_installed(names: Sequence[str]) -> None:
  """Raises ConfigError for a destination whose library is not there."""
  for name in names:
    if importlib.util.find_spec(name) is None:
      raise ConfigError(
        f"log.destinations {name!r} needs a library that is not installed: "
        f"pip install {name}, or leave it out"
      )


class Sender:
  """One destination, fed in a thread of its own, so that training never waits.

  Its first fault is told; nothing more is sent to it in this session.
  """

  def __init__(
    self, name: str, destination: Destination, *, after: int, tell: Tell
  ) -> None:
    """`after`: the last step that an earlier session may have sent there."""
    self._name, self._destination = name, destination
    self._after, self._tell = after, tell
    self._thread = concurrent.futures.ThreadPoolExecutor(1)
    self._works = True

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    if step > self._after:
      self._thread.submit(self._try, self._destination.write, step, scalars)

  def show(self, step: int, name: str, picture: np.ndarray) -> None:
    if step >= self._after:
      self._thread.submit(self._try, self._destination.show, step, name, picture)

  def close(self, *, finished: bool) -> None:
    """Waits until all is sent."""
    self._thread.submit(self._try, self._destination.close, finished=finished)
    self._thread.shutdown()

  def _try(self, send: Callable[..., None], *what: object, **how: object) -> None:
    if not self._works:
      return
    try:
      send(*what, **how)
    except Exception as error:  # whatever a library makes of a network or a disk
      self._works = False
      self._tell(_failed(self._name, error))


def open_senders(
  config: ConfigDict,
  workdir: epath.Path,
  *,
  first_step: int,
  last_step: int,
  tell: Tell,
) -> list[Sender]:
  """A sender for each of `log.destinations` that can be reached; others are told of.

  Args:
    config: of the run.
    workdir: where the run lives, and FILE, so that a run goes on there as the same.
    first_step: updates done. 0: the run begins anew, and is another one there.
    last_step: the last that earlier sessions have logged.
    tell: takes a sentence for people, from any thread.
  """
  known, senders = _read(workdir / FILE) if first_step else {}, []
  for name in config.log.destinations:
    session = Session(workdir, flatten(config), first_step, known.get(name, ""))
    try:
      opened = KINDS[name](session)
    except Exception as error:  # no network, no account: the run can do without
      tell(_failed(name, error))
      continue
    if opened.run_id:
      known[name] = opened.run_id
    # TensorBoard forgets what lies beyond the checkpoint. Others cannot; and what they
    # would be sent again is the same.
    after = last_step if session.run_id else 0
    senders.append(Sender(name, opened, after=after, tell=tell))
  if known or (workdir / FILE).exists():
    with written_whole(workdir / FILE) as beside:
      beside.write_text(json.dumps(known, indent=2) + "\n")
  return senders


def _failed(name: str, error: Exception) -> str:
  return (
    f"{name} gets nothing more in this session ({first_line(error)}); the run goes "
    "on, and metrics.jsonl has all of it"
  )


def _read(path: epath.Path) -> dict[str, str]:
  """The ids of earlier sessions; none if the file is damaged."""
  try:
    known = json.loads(path.read_text())
  except (OSError, ValueError):
    return {}
  return known if isinstance(known, dict) else {}
