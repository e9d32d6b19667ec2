"""Orbax checkpoints: the train state and the positives it trained with.

Positives stand beside the state, not in it: what only reads the state, such as an
evaluation, need not know them.
"""

import contextlib
import dataclasses
import json
import math
import time
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import (
  PolicyCheckpointInfo,
  PreservationContext,
  PreservationPolicy,
)

from clim_jax.experiment.error import ConfigError
from clim_jax.method.state import TrainState, is_finite
from clim_jax.selection.positives import Positives

_NO_FIGURES: Mapping[str, float] = types.MappingProxyType({})


class Checkpoint(NamedTuple):
  """What a run goes on from."""

  state: TrainState
  positives: Positives | None  # None before the first selection


class Best(NamedTuple):
  """The checkpoint that is kept by a figure, whatever comes after it."""

  step: int
  value: float  # of the figure


@dataclasses.dataclass(frozen=True)
class _Kept(PreservationPolicy):
  """The newest two, one to step back to, the newest of those planned, and the best.

  Saves by minutes and by signals do not push out those by epochs.
  """

  keep: int
  every: int
  best: str  # name of a figure

  def should_preserve(
    self, checkpoints: Sequence[PolicyCheckpointInfo], *, context: PreservationContext
  ) -> list[bool]:
    del context
    steps = [checkpoint.step for checkpoint in checkpoints]
    planned = [step for step in sorted(steps) if step % self.every == 0]
    best = [
      (checkpoint.metrics[self.best], checkpoint.step)
      for checkpoint in checkpoints
      if self.best in (checkpoint.metrics or {})
    ]
    kept = {*sorted(steps)[-2:], *planned[-self.keep :]}
    kept |= {step for _, step in sorted(best)[-1:]}
    return [step in kept for step in steps]


class SaveError(OSError):
  """A checkpoint cannot be written; those before it stay."""


class Restored(NamedTuple):
  """The newest checkpoint that could be read."""

  step: int
  checkpoint: Checkpoint
  faults: dict[int, str]  # newer steps, and what is wrong with them


class Checkpoints:
  """The checkpoints of a run; saving goes on in the background."""

  def __init__(
    self,
    path: epath.Path,
    *,
    keep: int | None = None,
    every: int = 1,
    best: str = "",
  ) -> None:
    """Opens those of a folder.

    Args:
      path: the folder.
      keep: how many of the steps that `every` divides stay; the newest two stay
        anyhow. None: for reading, all stay.
      every: steps from one save that is planned to the next.
      best: name of a figure that is the higher the better; the checkpoint with the
        highest stays too. "": none does.

    Raises:
      ConfigError: orbax cannot open them.
      OSError: the folder is not there, and cannot be made.
    """
    if keep is not None and jax.process_index() == 0:
      path.mkdir(parents=True, exist_ok=True)
    options = ocp.CheckpointManagerOptions(
      create=keep is not None,
      preservation_policy=None if keep is None else _Kept(keep, every, best),
      best_fn=(lambda figures: figures.get(best, -math.inf)) if best else None,
    )
    self._best = best
    items = {name: ocp.StandardCheckpointHandler() for name in Checkpoint._fields}
    self._path = path
    self._faults = {} if keep is None else _unopenable(path)
    _move_aside(path, self._faults)
    try:
      self._manager = ocp.CheckpointManager(
        path.resolve(), item_handlers=items, options=options
      )
    except Exception as error:  # whatever orbax makes of damage
      raise ConfigError(
        f"the checkpoints in {path} cannot be opened ({first_line(error)}): move the "
        "damaged one out of the folder"
      ) from error

  def newest(self) -> int | None:
    """The newest one that is whole on disk."""
    self.wait()
    return self._manager.latest_step()

  def best(self) -> Best | None:
    """The one with the highest figure; None if none has it, or none was chosen."""
    self.wait()
    step = self._manager.best_step() if self._best else None
    figures = {} if step is None else self._manager.metrics(step) or {}
    return Best(step, figures[self._best]) if self._best in figures else None

  def wait(self) -> None:
    """Until the last save is on disk; raises SaveError if it cannot be."""
    with self._told():
      self._manager.wait_until_finished()

  def save(
    self, step: int, checkpoint: Checkpoint, figures: Mapping[str, float] = _NO_FIGURES
  ) -> None:
    """Saves in the background; a checkpoint appears whole or not at all.

    One of this step that is there already stays.

    Args:
      step: updates done.
      checkpoint: what is there after them.
      figures: of this state, by name; the one to find the best by may be among them.

    Raises:
      SaveError: this one, or the one before, cannot be written.
    """
    if step in self._manager.all_steps():
      return
    state, positives = checkpoint
    items: dict[str, Any] = {"state": ocp.args.StandardSave(state)}
    if positives is not None:
      # Orbax stores no empty array; a table without any positive has empty ids.
      ids = np.append(positives.ids, np.int32(-1))
      table = positives._replace(ids=ids)._asdict()
      items["positives"] = ocp.args.StandardSave(table)
    told = {name: figures[name] for name in {self._best} & figures.keys()}
    with self._told():
      self._manager.save(
        step,
        args=ocp.args.Composite(**items),
        metrics=told if self._best else None,  # orbax warns of none where it looks
      )

  def restore_newest(self, like: TrainState) -> Restored | None:
    """The newest checkpoint that is good; None if there is none at all.

    Damaged ones that are newer are set aside, in `damaged/` beside the checkpoints.

    Raises:
      ConfigError: there are some and none is good; says what is wrong with each.
    """
    faults = dict(self._faults)
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        checkpoint = self.restore(step, like)
      except Exception as error:  # whatever orbax and tensorstore make of the damage
        faults[step] = first_line(error)
        continue
      if is_finite(checkpoint.state):
        self._set_aside(faults.keys() - self._faults.keys())
        return Restored(step, checkpoint, faults)
      faults[step] = "it holds values that are not finite"
    if not faults:
      return None
    told = "".join(f"\n  step {step}: {fault}" for step, fault in faults.items())
    raise ConfigError(
      f"no checkpoint in {self._path} can be restored, and nothing was changed; bring "
      f"back what is missing, or begin anew with another --workdir:{told}"
    )

  def _set_aside(self, steps: Iterable[int]) -> None:
    """So that these steps can be saved again."""
    _move_aside(self._path, steps)
    self._manager.reload()

  def restore(self, step: int, like: TrainState) -> Checkpoint:
    """The state has the shapes, dtypes and shardings of `like`.

    Raises:
      FileNotFoundError: there is no such step; names those there are.
      Exception: of many kinds, if it is damaged.
    """
    self._check(step)
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    items = {"state": ocp.args.StandardRestore(abstract)}
    restored = self._manager.restore(step, args=ocp.args.Composite(**items))
    return Checkpoint(restored["state"], self.restore_positives(step))

  def restore_positives(self, step: int) -> Positives | None:
    """Those that were drawn from when it was saved; None before the first selection."""
    # By what was saved and not by what is there: positives do not vanish silently.
    saved = json.loads((self._path / str(step) / "_CHECKPOINT_METADATA").read_text())
    if "positives" not in saved["item_handlers"]:
      return None
    item = ocp.args.Composite(positives=ocp.args.StandardRestore())
    restored = self._manager.restore(step, args=item)["positives"]
    table = {name: np.asarray(values) for name, values in restored.items()}
    return Positives(table["ids"][:-1], table["start"], table["count"])

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
    self.wait()
    known = self._manager.all_steps()
    if step not in known:
      raise FileNotFoundError(
        f"no checkpoint of step {step} in {self._path}; there are {sorted(known)}"
      )

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *_: object) -> None:
    """Waits for the last save, whatever has ended the run."""
    self.close()

  def close(self) -> None:
    """Waits for the last save; raises SaveError if it cannot be written."""
    with self._told():
      self._manager.close()

  @contextlib.contextmanager
  def _told(self) -> Iterator[None]:
    """Turns what becomes of a disk that is full into a sentence."""
    try:
      yield
    except (OSError, ValueError) as error:  # the latter is tensorstore's
      steps = (path.name for path in self._path.iterdir() if path.name.isdigit())
      newest = max(map(int, steps), default=None)
      from_where = "begins anew" if newest is None else f"goes on from step {newest}"
      raise SaveError(
        f"a checkpoint cannot be written to {self._path} ({first_line(error)}): see "
        "whether the disk is full or read-only; then the same command "
        f"{from_where}"
      ) from error


def _unopenable(path: epath.Path) -> dict[int, str]:
  """Steps that orbax passes over, or fails of before it opens any other; and why."""
  faults = {}
  for step in path.iterdir() if path.is_dir() else ():
    if not step.name.isdigit():
      continue
    if not step.is_dir():
      faults[int(step.name)] = "it is a file and no folder"
      continue
    with contextlib.suppress(OSError, ValueError):  # told when it is restored
      metadata = json.loads((step / "_CHECKPOINT_METADATA").read_text())
      if not isinstance(metadata, dict):
        faults[int(step.name)] = "its metadata is no JSON object"
    figures = step / "metrics" / "metrics"
    if figures.exists() and not _is_json_object(figures):
      faults[int(step.name)] = "its figures are no JSON object"
  return faults


def _is_json_object(path: epath.Path) -> bool:
  try:
    return isinstance(json.loads(path.read_bytes()), dict)
  except ValueError:
    return False


def _move_aside(path: epath.Path, steps: Iterable[int]) -> None:
  """Moves checkpoints to `damaged/` beside their folder; to be called by all."""
  if jax.process_index() == 0:
    for step in steps:
      aside = path.parent / "damaged" / f"{step}-{time.time_ns()}"
      aside.parent.mkdir(exist_ok=True)
      (path / str(step)).rename(aside)
  multihost_utils.sync_global_devices("set aside")


def first_line(error: Exception) -> str:
  """Its kind and the beginning of its message."""
  lines = str(error).strip().splitlines() or [""]
  return f"{type(error).__name__}: {lines[0][:200]}"
