"""Orbax checkpoints: the train state, and the positives it was training with."""

from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from clim_jax.selection.positives import Positives
from clim_jax.train.state import TrainState


class Checkpoints:
  """The checkpoints of a run; saving goes on in the background."""

  def __init__(self, path: epath.Path, *, keep: int | None = None) -> None:
    """`keep` bounds how many stay; None keeps all (for reading)."""
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=keep is not None)
    items = {name: ocp.StandardCheckpointHandler() for name in ("state", "positives")}
    self._path = path
    self._manager = ocp.CheckpointManager(
      path.resolve(), item_handlers=items, options=options
    )

  def newest(self) -> int | None:
    return self._manager.latest_step()

  def save(self, step: int, state: TrainState, positives: Positives | None) -> None:
    """Saves in the background; a checkpoint appears whole or not at all."""
    items: dict[str, Any] = {"state": ocp.args.StandardSave(state)}
    if positives is not None:
      # Orbax stores no empty array; a table without any positive has empty ids.
      ids = np.append(positives.ids, np.int32(-1))
      table = positives._replace(ids=ids)._asdict()
      items["positives"] = ocp.args.StandardSave(table)
    self._manager.save(step, args=ocp.args.Composite(**items))

  def restore(self, step: int, like: TrainState) -> tuple[TrainState, Positives | None]:
    """The state with the shapes, dtypes and shardings of `like`.

    Raises:
      FileNotFoundError: there is no such step; names those there are.
    """
    known = self._manager.all_steps()
    if step not in known:
      raise FileNotFoundError(
        f"no checkpoint of step {step} in {self._path}; there are {sorted(known)}"
      )
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    items: dict[str, Any] = {"state": ocp.args.StandardRestore(abstract)}
    if (self._path / str(step) / "positives").exists():
      items["positives"] = ocp.args.StandardRestore()
    restored = self._manager.restore(step, args=ocp.args.Composite(**items))
    positives = None
    if "positives" in items:
      table = {k: np.asarray(v) for k, v in restored["positives"].items()}
      positives = Positives(table["ids"][:-1], table["start"], table["count"])
    return restored["state"], positives

  def close(self) -> None:
    """Waits for the last save."""
    self._manager.wait_until_finished()
    self._manager.close()
