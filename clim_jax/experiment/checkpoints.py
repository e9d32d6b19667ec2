"""Orbax checkpoints: the train state and the positives it trained with.

Positives stand beside the state, not in it: what only reads the state, such as an
evaluation, need not know them.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from clim_jax.method.state import TrainState
from clim_jax.selection.positives import Positives


class Checkpoint(NamedTuple):
  """What a run goes on from."""

  state: TrainState
  positives: Positives | None  # None before the first selection


class Checkpoints:
  """The checkpoints of a run; saving goes on in the background."""

  def __init__(self, path: epath.Path, *, keep: int | None = None) -> None:
    """`keep` bounds how many stay; None keeps all (for reading)."""
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=keep is not None)
    items = {name: ocp.StandardCheckpointHandler() for name in Checkpoint._fields}
    self._path = path
    self._manager = ocp.CheckpointManager(
      path.resolve(), item_handlers=items, options=options
    )

  def newest(self) -> int | None:
    return self._manager.latest_step()

  def save(self, step: int, checkpoint: Checkpoint) -> None:
    """Saves in the background; a checkpoint appears whole or not at all."""
    state, positives = checkpoint
    items: dict[str, Any] = {"state": ocp.args.StandardSave(state)}
    if positives is not None:
      # Orbax stores no empty array; a table without any positive has empty ids.
      ids = np.append(positives.ids, np.int32(-1))
      table = positives._replace(ids=ids)._asdict()
      items["positives"] = ocp.args.StandardSave(table)
    self._manager.save(step, args=ocp.args.Composite(**items))

  def restore(self, step: int, like: TrainState) -> Checkpoint:
    """The state has the shapes, dtypes and shardings of `like`.

    Raises:
      FileNotFoundError: there is no such step; names those there are.
    """
    self._check(step)
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    items: dict[str, Any] = {"state": ocp.args.StandardRestore(abstract)}
    if (self._path / str(step) / "positives").exists():
      items["positives"] = ocp.args.StandardRestore()
    restored = self._manager.restore(step, args=ocp.args.Composite(**items))
    positives = None
    if "positives" in items:
      table = {k: np.asarray(v) for k, v in restored["positives"].items()}
      positives = Positives(table["ids"][:-1], table["start"], table["count"])
    return Checkpoint(restored["state"], positives)

  def restore_encoder(
    self, step: int, role: str, sharding: jax.sharding.Sharding
  ) -> dict[str, Any]:
    """Parameters and running statistics alone, whatever else the state holds.

    Args:
      step: of the checkpoint.
      role: "query" or "key".
      sharding: of every array.

    Returns:
      "params" and "batch_stats", as flax has them.

    Raises:
      FileNotFoundError: there is no such step; names those there are.
    """
    self._check(step)
    saved = self._manager.item_metadata(step)["state"].tree
    abstract = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
      saved,
    )
    items = {"state": ocp.args.StandardRestore(abstract)}
    state = self._manager.restore(step, args=ocp.args.Composite(**items))["state"]
    return {"params": state[f"{role}_params"], "batch_stats": state[f"{role}_stats"]}

  def _check(self, step: int) -> None:
    self._manager.wait_until_finished()
    known = self._manager.all_steps()
    if step not in known:
      raise FileNotFoundError(
        f"no checkpoint of step {step} in {self._path}; there are {sorted(known)}"
      )

  def close(self) -> None:
    """Waits for the last save."""
    self._manager.wait_until_finished()
    self._manager.close()
