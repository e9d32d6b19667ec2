"""Where the figures of a run go besides metrics.jsonl: what each has in common."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from etils import epath

PROJECT = "clim_jax"  # what runs stand under, unless a library's own variable says so


class Session(NamedTuple):
  """What a destination is told of a session that begins."""

  workdir: epath.Path  # its last part names the run
  config: dict[str, Any]  # by dotted key
  first_step: int  # updates done before
  run_id: str  # of the same run there, from an earlier session; "": it is new


class Destination(Protocol):
  """Takes what one session of a run shows. It may raise what it likes."""

  run_id: str  # by which a later session goes on with the same run; "": needs none

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """The figures of a step."""

  def show(self, step: int, name: str, picture: np.ndarray) -> None:
    """A picture, [H, W, 3] uint8."""

  def close(self, *, finished: bool) -> None:
    """All has been sent; `finished`: the run has come to its end."""
