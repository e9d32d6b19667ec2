"""What the files of a run say, whole or damaged, while it goes on or after its end."""

import fcntl
import json
from typing import Any, NamedTuple

from etils import epath

from clim_jax.experiment import keys
from clim_jax.experiment.error import ConfigError
from clim_jax.pretrain.records import Record, read_records

FINISHED, RUNNING, STOPPED = "finished", "running", "stopped"


class RunFiles(NamedTuple):
  """A run without its arrays."""

  workdir: epath.Path
  config: dict[str, Any]  # by dotted key
  records: list[Record]  # of metrics.jsonl
  sessions: list[dict[str, Any]]  # of history.jsonl, oldest first
  evaluations: dict[str, dict[str, Any]]  # what evaluation*.json hold, by their stem
  state: str  # FINISHED, RUNNING or STOPPED

  @property
  def name(self) -> str:
    return self.workdir.name

  @property
  def epoch(self) -> float:
    """Done so far, by the newest record."""
    return self.records[-1]["epoch"] if self.records else 0.0

  @property
  def step(self) -> int:
    return self.records[-1]["step"] if self.records else 0


def read_run(workdir: epath.Path) -> RunFiles:
  """Reads a run; of damaged files what can be read.

  Raises:
    ConfigError: there is no run, or its config is damaged.
  """
  path = workdir / "config.json"
  if not path.exists():
    raise ConfigError(f"{workdir} holds no run: {path} does not exist")
  config = _json(path)
  if not isinstance(config, dict):
    raise ConfigError(f"{path} is damaged: bring back a copy, or resume the run")
  records = read_records(workdir / "metrics.jsonl").readable
  records = [record for record in records if "epoch" in record]
  flat = keys.BASE | keys.flatten(config)
  return RunFiles(
    workdir,
    json.loads(json.dumps(flat)),
    records,
    _lines(workdir / "history.jsonl"),
    _evaluations(workdir),
    _state(workdir, records, flat["epochs"]),
  )


def _json(path: epath.Path) -> Any:
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError):
    return None


def _lines(path: epath.Path) -> list[dict[str, Any]]:
  if not path.exists():
    return []
  found = []
  for line in path.read_text().splitlines():
    try:
      found.append(json.loads(line))
    except ValueError:  # the last one of a process that was killed
      continue
  return [line for line in found if isinstance(line, dict)]


def _evaluations(workdir: epath.Path) -> dict[str, dict[str, Any]]:
  """The run's own first, then those with a name."""
  paths = sorted(workdir.glob("evaluation*.json"), key=lambda path: path.stem)
  read = {path.stem: _json(path) for path in paths}
  return {
    name: document
    for name, document in read.items()
    if isinstance(document, dict) and document.get("results")
  }


def _state(workdir: epath.Path, records: list[Record], epochs: int) -> str:
  if _is_locked(workdir / ".lock"):
    return RUNNING
  is_done = records and records[-1]["epoch"] >= epochs
  return FINISHED if is_done else STOPPED


def _is_locked(path: epath.Path) -> bool:
  """Whether a process trains there now, as `experiment.workdir.only_run` has it."""
  if "://" in str(path) or not path.exists():
    return False
  try:
    with path.open() as file:
      fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
  except BlockingIOError:
    return True
  except OSError:  # a file system without locks, or another person's run
    return False
  return False
