"""TPUs that are not there: what is published of them, and compiling for them."""

import os
from typing import NamedTuple

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from clim_jax import sharding


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


def topology_mesh(name: str) -> Mesh:
  """All devices of a topology such as "v4:2x2x2" or "v5e:2x4", on the axis "data"."""
  # Neither a metadata server nor a TPU is to be looked for.
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
  options = {}
  if name.split(":")[0] in _MEGACORE:
    options["chip_config_name"] = "megacore"
  topology = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
  return sharding.make_mesh(topology.devices)


def chip_of(mesh: Mesh) -> Chip:
  """What is published of the devices of a mesh."""
  return CHIPS[mesh.devices.flat[0].device_kind]


def compile_readably(lowered: jax.stages.Lowered, mesh: Mesh) -> jax.stages.Compiled:
  """Compiles what was lowered for a mesh, so that `cost_of` can read it."""
  options = _READABLE.get(mesh.devices.flat[0].device_kind)
  return lowered.compile(compiler_options=options)
