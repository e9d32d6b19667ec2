"""The train step of an experiment, traced from shapes alone: nothing is computed."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from clim_jax import sharding
from clim_jax.experiment.experiment import Experiment
from clim_jax.method.batch import Batch
from clim_jax.method.state import TrainState


def trace_step(experiment: Experiment, *, mixed: bool) -> jax.stages.Traced:
  """The step as it is before the first selection, or with `mixed` after it.

  It is lowered and compiled for the devices of the experiment's mesh, which need not
  be there.
  """
  batch = _placed(experiment, _batch(experiment, mixed=mixed), sharding.ROWS)
  return experiment.train_step().trace(abstract_state(experiment), batch)


def abstract_state(experiment: Experiment) -> TrainState:
  """Shapes and dtypes of the state, on every device."""
  state = jax.eval_shape(experiment.init_state)
  return _placed(experiment, state, sharding.REPLICATED)


def _batch(experiment: Experiment, *, mixed: bool) -> Batch:
  rows, sides = experiment.config.batch_size, experiment.config.views.sides

  def images(side: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((rows, side, side, 3), jnp.uint8)

  def vector(dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((rows,), dtype)

  queries = tuple(images(side) for side in sides)
  return Batch(
    query=queries,
    key=queries[0],
    positive_query=queries if mixed and experiment.view_plan.positive_queries else (),
    positive_key=queries[0] if mixed else None,
    has_positive=vector(jnp.bool_),
    key_row=vector(jnp.int32),
    query_row=vector(jnp.int32),
  )


def _placed(experiment: Experiment, tree: Any, spec: PartitionSpec) -> Any:
  placed = NamedSharding(experiment.mesh, spec)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed), tree
  )
