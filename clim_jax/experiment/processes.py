"""Several processes train one run: each is given the same, or none begins."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from clim_jax.data.source import Source
from clim_jax.experiment import images
from clim_jax.experiment.error import ConfigError
from clim_jax.experiment.keys import flatten
from clim_jax.experiment.workdir import versions

# Where data lie may differ; they are compared themselves.
_OF_A_HOST = ("data.path", "data.test_path")
_SHOWN = 3  # differences in a message


def check_same(config: ConfigDict, train: Source, workdir: epath.Path) -> None:
  """Compares what this process was given with all others; returns in all together.

  Args:
    config: of the run.
    train: its training images, of which names and number are compared.
    workdir: whose checkpoints all processes must see.

  Raises:
    ConfigError: one differs from process 0; in all processes, and says in what.
  """
  if jax.process_count() == 1:
    return
  found = workdir / "checkpoints"
  names = "\n".join(images.list_images(train))
  given = {
    key: value for key, value in flatten(config).items() if key not in _OF_A_HOST
  }
  given |= {f"the version of {name}": text for name, text in versions().items()}
  given["the number of training images"] = train.num_images
  given["the digest of their names"] = hashlib.sha256(names.encode()).hexdigest()[:16]
  given["the checkpoints in --workdir, which all share,"] = (
    sorted(path.name for path in found.iterdir()) if found.is_dir() else []
  )
  compare([json.loads(text) for text in _gather(json.dumps(given))])


def compare(given: Sequence[dict[str, Any]]) -> None:
  """Raises ConfigError if a process, in order of their numbers, has not what 0 has."""
  first, *others = given
  told = []
  for process, other in enumerate(others, start=1):
    differ = [key for key in first | other if first.get(key) != other.get(key)]
    told += [
      f"{key} is {other.get(key)!r} in process {process} and {first.get(key)!r} in "
      "process 0"
      for key in differ[:_SHOWN]
    ]
    if len(differ) > _SHOWN:
      told.append(f"and {len(differ) - _SHOWN} more differ in process {process}")
  if told:
    raise ConfigError(
      "the processes of a run must be started with the same command, data and "
      "versions:\n  " + "\n  ".join(told)
    )


def _gather(text: str) -> list[str]:
  """The texts of all processes."""
  data = np.frombuffer(text.encode(), np.uint8)
  sizes = np.ravel(multihost_utils.process_allgather(np.int32(len(data))))
  padded = np.pad(data, (0, sizes.max() - len(data)))
  rows = np.asarray(multihost_utils.process_allgather(padded))
  return [
    bytes(row[:size]).decode() for row, size in zip(rows, sizes.tolist(), strict=True)
  ]
