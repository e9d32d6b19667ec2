"""One run in one folder: who may write there, and what its sessions were."""

import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import shlex
import sys
from collections.abc import Iterator, Sequence

import jax
from etils import epath

from clim_jax.experiment.checkpoints import Best
from clim_jax.experiment.configuration import Change
from clim_jax.experiment.error import ConfigError
from clim_jax.whole import written_whole

_MATTER = ("jax", "flax", "optax", "orbax-checkpoint")


def versions() -> dict[str, str]:
  """Of the libraries that a run's figures hang on."""
  return {name: importlib.metadata.version(name) for name in _MATTER}


@contextlib.contextmanager
def only_run(workdir: epath.Path) -> Iterator[None]:
  """Keeps other processes from training in a folder; a crash ends that too.

  On local paths. Of several processes of one run the first holds the folder.

  Raises:
    ConfigError: another process trains there.
  """
  if jax.process_index() != 0 or "://" in str(workdir):
    yield
    return
  workdir.mkdir(parents=True, exist_ok=True)
  with (workdir / ".lock").open("a") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise ConfigError(
        f"another process trains in {workdir}: wait until it ends, or give another "
        "--workdir"
      ) from error
    except OSError:  # a file system without locks
      pass
    yield


def append_session(
  workdir: epath.Path, step: int, changes: Sequence[Change], best: Best | None = None
) -> None:
  """Adds a line to history.jsonl: when a session begins, where, and what it changed.

  `best` is the checkpoint that is best by then.
  """
  path = workdir / "history.jsonl"
  past = path.read_bytes() if path.exists() else b""
  record = {
    "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "step": step,
    "command": shlex.join(sys.argv),
    "devices": f"{jax.device_count()} × {jax.devices()[0].device_kind}",
    "processes": jax.process_count(),
    "versions": versions(),
    "best": None if best is None else best._asdict(),
    "changed": {change.key: [change.saved, change.given] for change in changes},
  }
  with written_whole(path) as beside:
    beside.write_bytes(past + json.dumps(record).encode() + b"\n")
