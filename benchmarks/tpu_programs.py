"""Compiles the programs of a run for TPUs that are not there, and reads their cost."""

import os
import re

# Neither a metadata server nor a TPU is to be looked for.
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")

import functools
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from benchmarks import tpu_traffic
from clim_jax import sharding
from clim_jax.augment.apply import augment
from clim_jax.configs import base
from clim_jax.experiment import limits
from clim_jax.experiment.experiment import Experiment
from clim_jax.method.batch import Batch
from clim_jax.selection import kmeans
from clim_jax.selection.search import exact

_IMAGENET = 1_281_167


class Chip(NamedTuple):
  """Published peaks of one device: Google Cloud's pages on its TPU versions."""

  flops: float  # a second, bfloat16
  bandwidth: float  # bytes a second
  memory: float  # bytes


# By `device_kind`. A TPU7x chip is two devices; the other chips are one.
CHIPS = {
  "TPU v4": Chip(275e12, 1.228e12, 32 * 2**30),
  "TPU v5 lite": Chip(197e12, 0.819e12, 16 * 2**30),
  "TPU v5": Chip(459e12, 2.765e12, 95 * 2**30),
  "TPU v6 lite": Chip(918e12, 1.64e12, 32 * 2**30),
  "TPU7x": Chip(1153e12, 3.69e12, 96 * 2**30),
}
# The newest of each generation that libtpu 0.0.52 knows.
TOPOLOGIES = ("v4:2x2x2", "v5e:2x4", "v6e:2x4", "tpu7x:2x2x2")
# The two cores of these chips work as one device, as they do on Cloud TPU.
_MEGACORE = ("v4", "v5p")
# Collectives that a TPU7x hands to its sparse cores come back from libtpu as calls that
# jaxlib 0.10 cannot read; in a program that is to be read they stay where they are.
_OFFLOAD = "xla_tpu_enable_sparse_core_collective_offload"
_READABLE = {
  "TPU7x": {f"{_OFFLOAD}_all_reduce": "false", f"{_OFFLOAD}_all_gather": "false"}
}
_COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "collective-permute",
  "reduce-scatter",
  "all-to-all",
)


class Cost(NamedTuple):
  """Of one device. FLOP and accessed bytes count the body of a loop once."""

  flops: float
  bytes_accessed: float  # on-chip memory included
  hbm_bytes: int
  augment_bytes: int  # of those, by what carries its name; flips lose theirs
  cycles: int  # by the compiler's estimate of each operation
  augment_cycles: int  # of those; neither its kernel nor the layouts around it
  collective_bytes: int


def topology_mesh(name: str) -> Mesh:
  """All devices of a topology such as "v4:2x2x2" or "v5e:2x4", on the axis "data"."""
  options = {}
  if name.split(":")[0] in _MEGACORE:
    options["chip_config_name"] = "megacore"
  topology = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
  return sharding.make_mesh(topology.devices)


def compile_readably(lowered: jax.stages.Lowered, mesh: Mesh) -> jax.stages.Compiled:
  """Compiles what was lowered for a mesh, so that `cost_of` can read it."""
  options = _READABLE.get(mesh.devices.flat[0].device_kind)
  return lowered.compile(compiler_options=options)


def lower_step(
  config: ConfigDict, mesh: Mesh, batch_per_chip: int
) -> jax.stages.Lowered:
  """The train step of a config, with positives if the config selects any."""
  devices = mesh.devices.size
  config = config.copy_and_resolve_references()
  config.batch_size = batch_per_chip * devices
  config.model.batch_norm_groups = devices
  config.model.dtype = "bfloat16"  # "auto" would ask the machine that compiles
  source = types.SimpleNamespace(num_images=_IMAGENET)
  experiment = Experiment(config, mesh, source, None)
  state = _abstract(mesh, jax.eval_shape(experiment.init_state), sharding.REPLICATED)
  batch = _abstract(mesh, _batch(experiment), sharding.ROWS)
  return experiment.train_step().lower(state, batch)


def _batch(experiment: Experiment) -> Batch:
  config, plan = experiment.config, experiment.view_plan
  rows = config.batch_size

  def images(side: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((rows, side, side, 3), jnp.uint8)

  def vector(dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((rows,), dtype)

  queries = tuple(images(side) for side in config.views.sides)
  selects = config.selection.rule != "none"
  return Batch(
    query=queries,
    key=queries[0],
    positive_query=queries if selects and plan.positive_queries else (),
    positive_key=queries[0] if selects else None,
    has_positive=vector(jnp.bool_),
    key_row=vector(jnp.int32),
    query_row=vector(jnp.int32),
  )


def lower_augmentation(
  mesh: Mesh, *, batch_per_chip: int, side: int, **changes: Any
) -> jax.stages.Lowered:
  """MoCo v2's photometric augmentation of one view, rounded to bfloat16.

  Args:
    changes: of the section `augment` of the config.
  """
  config = base.get_config()
  config.augment.update(changes)
  policy = limits.augment_policy(config)

  def view(rngs: jax.Array, images: jax.Array) -> jax.Array:
    return augment(rngs, images, policy).astype(jnp.bfloat16)

  rows = batch_per_chip * mesh.devices.size
  rngs = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))
  images = jax.ShapeDtypeStruct((rows, side, side, 3), jnp.uint8)
  mapped = sharding.spmd(
    view, mesh, in_specs=(sharding.ROWS, sharding.ROWS), out_specs=sharding.ROWS
  )
  return mapped.lower(*_abstract(mesh, (rngs, images), sharding.ROWS))


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
  return jax.jit(search).lower(_abstract(mesh, bank, sharding.ROWS))


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
  return mapped.lower(_abstract(mesh, rng, whole), _abstract(mesh, bank, by_row))


def _abstract(mesh: Mesh, tree: Any, spec: PartitionSpec) -> Any:
  placed = NamedSharding(mesh, spec)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed), tree
  )


def cost_of(compiled: jax.stages.Compiled) -> Cost:
  """What the compiler says of a program."""
  analysis, text = compiled.cost_analysis() or {}, compiled.as_text()
  return Cost(
    flops=analysis.get("flops", 0.0),
    bytes_accessed=analysis.get("bytes accessed", 0.0),
    hbm_bytes=tpu_traffic.hbm_bytes(text),
    augment_bytes=tpu_traffic.hbm_bytes(text, scope="augment"),
    cycles=tpu_traffic.estimated_cycles(text),
    augment_cycles=tpu_traffic.estimated_cycles(text, scope="augment"),
    collective_bytes=_collective_bytes(text),
  )


def memory_bytes(compiled: jax.stages.Compiled) -> int:
  """Arguments and temporaries of one device."""
  memory = compiled.memory_analysis()
  return memory.temp_size_in_bytes + memory.argument_size_in_bytes


def _collective_bytes(text: str) -> int:
  """Bytes that the collectives of a program return on one device."""
  names = "|".join(_COLLECTIVES)
  total = 0
  for shapes in re.findall(rf"= (.*?) (?:{names})(?:-start)?\(", text):
    for dtype, shape in re.findall(r"\b([a-z]+\d+|pred)\[([\d,]*)\]", shapes):
      bits = 8 if dtype == "pred" else int(re.sub(r"\D", "", dtype))
      total += int(np.prod([int(n) for n in shape.split(",") if n])) * bits // 8
  return total
