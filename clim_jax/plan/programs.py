"""Programs of a run from shapes alone: nothing is computed, no device need be there."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from clim_jax import sharding
from clim_jax.experiment.experiment import Experiment
from clim_jax.method.batch import Batch
from clim_jax.method.state import TrainState
from clim_jax.pretrain.flops import count_flops
from clim_jax.selection import kmeans
from clim_jax.selection.positives import RULES
from clim_jax.selection.search import exact


class CompiledStep(NamedTuple):
  """One of the two programs that train."""

  program: jax.stages.Compiled
  flops: int  # of one device
  tracing: float  # seconds, at the start of each session
  compiling: float  # seconds, unless it is kept from an earlier one


def compile_steps(
  experiment: Experiment,
  batches: dict[str, Batch],
  compiled: Callable[[jax.stages.Lowered], jax.stages.Compiled],
) -> dict[str, CompiledStep]:
  """Programs by `compiled`, for a batch of each kind, or shapes of one."""
  found, state = {}, abstract_state(experiment)
  for kind, batch in batches.items():
    started = time.perf_counter()
    traced = experiment.train_step().trace(state, batch)
    lowered = traced.lower()
    lowered_at = time.perf_counter()
    program = compiled(lowered)
    compiling = time.perf_counter() - lowered_at
    flops = count_flops(traced.jaxpr.jaxpr)
    found[kind] = CompiledStep(program, flops, lowered_at - started, compiling)
  return found


def abstract_state(experiment: Experiment) -> TrainState:
  """Shapes and dtypes of the state, on every device."""
  state = jax.eval_shape(experiment.init_state)
  return placed(experiment.mesh, state, sharding.REPLICATED)


def lower_selection(experiment: Experiment) -> list[jax.stages.Lowered]:
  """The programs of a selection that hold the whole bank; none without a rule."""
  found, config = [], experiment.config.selection
  conditions = RULES[config.rule]
  bank = {"images": experiment.train.num_images, "dim": experiment.feature_dim}
  if "a" in conditions and not experiment.selection.is_pruned:
    found.append(
      lower_neighbours(
        experiment.mesh,
        **bank,
        num_neighbours=config.num_neighbours,
        scoring=config.scoring,
      )
    )
  if "b" in conditions:
    found.append(
      lower_kmeans(
        experiment.mesh,
        **bank,
        num_centers=config.num_centers,
        iterations=config.kmeans_iterations,
      )
    )
  return found


def abstract_batch(experiment: Experiment, *, mixed: bool) -> Batch:
  """Shapes of what a step is given, before the first selection or after it."""
  rows, sides = experiment.config.batch_size, experiment.config.views.sides

  def images(side: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((rows, side, side, 3), jnp.uint8)

  def vector(dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((rows,), dtype)

  queries = tuple(images(side) for side in sides)
  batch = Batch(
    query=queries,
    key=queries[0],
    positive_query=queries if mixed and experiment.view_plan.positive_queries else (),
    positive_key=queries[0] if mixed else None,
    has_positive=vector(jnp.bool_),
    key_row=vector(jnp.int32),
    query_row=vector(jnp.int32),
  )
  return placed(experiment.mesh, batch, sharding.ROWS)


def lower_neighbours(
  mesh: Mesh, *, images: int, dim: int, num_neighbours: int, scoring: str
) -> jax.stages.Lowered:
  """The exact search over a bank of `images` × `dim`."""
  rows = -(-images // mesh.devices.size) * mesh.devices.size
  search = functools.partial(
    exact.exact_neighbours,
    mesh,
    num_images=images,
    num_neighbours=num_neighbours,
    scoring=scoring,
  )
  bank = jax.ShapeDtypeStruct((rows, dim), jnp.float32)
  return jax.jit(search).lower(placed(mesh, bank, sharding.ROWS))


def lower_kmeans(
  mesh: Mesh, *, images: int, dim: int, num_centers: int, iterations: int
) -> jax.stages.Lowered:
  """Seeds, iterations and the final assignment over such a bank."""
  rows = -(-images // mesh.devices.size) * mesh.devices.size
  by_row, whole = sharding.ROWS, sharding.REPLICATED
  find = functools.partial(
    kmeans.spherical_kmeans,
    num_images=images,
    num_centers=num_centers,
    iterations=iterations,
  )
  mapped = sharding.spmd(
    find,
    mesh,
    in_specs=(whole, by_row),
    out_specs=kmeans.Clustering(whole, by_row, by_row),
  )
  rng = jax.eval_shape(lambda: jax.random.key(0))
  bank = jax.ShapeDtypeStruct((rows, dim), jnp.float32)
  return mapped.lower(placed(mesh, rng, whole), placed(mesh, bank, by_row))


def placed(mesh: Mesh, tree: Any, spec: PartitionSpec) -> Any:
  """Arrays as shapes that lie on the devices of a mesh."""
  where = NamedSharding(mesh, spec)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), tree
  )
