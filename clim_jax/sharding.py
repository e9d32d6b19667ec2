"""The one device axis, "data": how functions are mapped and arrays placed."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"
ROWS = PartitionSpec(AXIS)
REPLICATED = PartitionSpec()


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
  """One-dimensional mesh over `devices`, by default all of every process.

  Those of a process stand side by side, so that it holds one run of rows, as
  `process_rows` has it. `jax.make_mesh` would order a TPU's devices by their links and
  mix processes: v4:2x2x2 has 0 1 0 1 0 1 0 1.
  """
  devices = jax.devices() if devices is None else devices
  ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
  return Mesh(np.array(ordered), (AXIS,), axis_types=(AxisType.Auto,))


def spmd(
  function: Callable[..., Any],
  mesh: Mesh,
  *,
  in_specs: Any,
  out_specs: Any,
  donate_argnums: tuple[int, ...] = (),
  convolves: bool = False,
) -> Callable[..., Any]:
  """Maps a per-replica function, written with the axis `AXIS`, over the mesh.

  This is what `jax.pmap` has become, less its host-local conversion per call;
  `check_vma` stays on, so a forgotten synchronisation is an error at tracing.
  """
  mapped = jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs)
  options = convolution_options(mesh) if convolves else None
  return jax.jit(mapped, donate_argnums=donate_argnums, compiler_options=options)


def convolution_options(mesh: Mesh) -> dict[str, str] | None:
  """Compiler options for programs with convolutions, by the kind of device.

  On a CPU, XLA's YNN gets matrix products: ResNet-18's step takes 0.97 of the time with
  it. Convolutions are kept from it: with them it takes 1.07 times as long (see
  docs/notebook/performance.md). YNN is an experiment: where XLA does not know the
  option, there is nothing to choose.
  """
  if mesh.devices.flat[0].platform != "cpu":
    return None
  options = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}
  return options if _is_known(tuple(options.items())) else None


@functools.cache
def _is_known(options: tuple[tuple[str, str], ...]) -> bool:
  try:
    jax.jit(lambda x: x, compiler_options=dict(options)).lower(0.0).compile()
  except jax.errors.JaxRuntimeError:
    return False
  return True


def varying(tree: Any) -> Any:
  """Marks replicated leaves as this replica's own.

  `grad` with respect to an unvarying value sums over replicas by itself; a
  following `pmean` would then be too large by the number of devices.
  """
  return jax.tree.map(lambda leaf: lax.pcast(leaf, AXIS, to="varying"), tree)


def mean(tree: Any) -> Any:
  """Of the replicas' float32 trees, leaf by leaf, inside a mapped function."""

  def of_one_vector(tree: Any) -> Any:
    # A CPU's devices meet anew for every array: 69 times in the digits step, 5 ms.
    vector, unravel = ravel_pytree(tree)
    return unravel(lax.pmean(vector, AXIS))

  return lax.platform_dependent(
    tree,
    cpu=of_one_vector,
    default=functools.partial(lax.pmean, axis_name=AXIS),
  )


def row_offset(rows: int) -> jax.Array:
  """Global index of this replica's first row, [] int32, inside a mapped function."""
  return lax.axis_index(AXIS) * rows


def replicated(mesh: Mesh) -> NamedSharding:
  """The whole of an array on every device."""
  return NamedSharding(mesh, REPLICATED)


def put_rows(mesh: Mesh, tree: Any) -> Any:
  """This process's rows, [b, ...], as its part of global row-sharded arrays.

  What lies on the devices already stays as it is.
  """
  sharding = NamedSharding(mesh, ROWS)
  if sharding.is_fully_addressable:
    return jax.device_put(tree, sharding)  # in one call, for steps are short

  def put(leaf: np.ndarray | jax.Array) -> jax.Array:
    if isinstance(leaf, jax.Array):
      return leaf
    return jax.make_array_from_process_local_data(sharding, leaf)

  return jax.tree.map(put, tree)


def to_host(array: jax.Array) -> np.ndarray:
  """The whole of a global array, on every process."""
  if array.is_fully_addressable or array.is_fully_replicated:
    return np.asarray(array)
  return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def process_rows(mesh: Mesh, global_rows: int) -> slice:
  """Which rows of a row-sharded [global_rows, ...] array this process holds.

  Raises:
    ValueError: the devices do not share the rows out evenly, or this process has none
      of the mesh's devices, or other processes' stand among its own.
  """
  devices, process = mesh.devices.size, jax.process_index()
  if global_rows % devices:
    raise ValueError(f"{global_rows} rows must divide by {devices} devices")
  owners = [device.process_index for device in mesh.devices.flat]
  count = owners.count(process)
  first = owners.index(process) if count else 0
  if not count or owners[first : first + count] != [process] * count:
    raise ValueError(
      f"the mesh's devices are of the processes {owners}: those of process {process} "
      "must stand side by side; make the mesh by sharding.make_mesh"
    )
  per_device = global_rows // devices
  return slice(first * per_device, (first + count) * per_device)
