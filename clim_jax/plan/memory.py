"""Bytes of a run: counted from shapes, and as the compiler has laid programs out."""

import dataclasses
import math
from typing import Any

import jax

from clim_jax.experiment.experiment import Experiment
from clim_jax.method.state import TrainState


def tree_bytes(tree: Any) -> int:
  """Of all arrays of a tree, each once."""
  return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def count_parameters(state: TrainState) -> int:
  """Numbers that the query encoder learns, its projection included."""
  return sum(math.prod(x.shape) for x in jax.tree.leaves(state.query_params))


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes of one device."""

  encoders: int  # both, with their running statistics
  optimizer: int
  queue: int
  activations: int  # the larger step's temporaries
  bank: int  # this device's rows
  selection: int  # temporaries of the search and of k-means
  peak: int  # of a step or of a selection, whichever takes more

  @property
  def state(self) -> int:
    return self.encoders + self.optimizer + self.queue


def memory_of(
  experiment: Experiment,
  state: TrainState,
  steps: list[jax.stages.Compiled],
  selection: list[jax.stages.Compiled],
) -> Memory:
  """What one device must hold.

  Args:
    experiment: the run.
    state: its state, or shapes of it.
    steps: its compiled steps.
    selection: programs that read the bank, compiled.
  """
  rows = -(-experiment.train.num_images // experiment.mesh.devices.size)
  bank = rows * experiment.feature_dim * 4 if selection else 0
  working = max((_program_bytes(p) for p in selection), default=0)
  return Memory(
    encoders=tree_bytes(
      (state.query_params, state.query_stats, state.key_params, state.key_stats)
    ),
    optimizer=tree_bytes(state.opt_state),
    queue=tree_bytes(state.queue),
    activations=max(p.memory_analysis().temp_size_in_bytes for p in steps),
    bank=bank,
    selection=max(working - bank, 0),
    peak=max(*map(_program_bytes, steps), tree_bytes(state) + max(working, bank)),
  )


def _program_bytes(program: jax.stages.Compiled) -> int:
  """Arguments, results and temporaries of one device; what is donated counts once."""
  told = program.memory_analysis()
  return (
    told.argument_size_in_bytes
    + told.output_size_in_bytes
    - told.alias_size_in_bytes
    + told.temp_size_in_bytes
  )
