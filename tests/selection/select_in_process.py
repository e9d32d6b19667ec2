"""One of several processes that select together; started by test_devices.py.

Arguments: port of the coordinator, processes, this process, path of the bank, path
of the result.
"""

import sys

import jax
import numpy as np

from clim_jax import sharding
from clim_jax.selection.refresh import Selection


def select(bank: np.ndarray, mesh: jax.sharding.Mesh, probes: int) -> list[np.ndarray]:
  """The table of positives and what the clusters say of each image."""
  devices = mesh.devices.size
  padded = np.pad(bank, ((0, -len(bank) % devices), (0, 0)))
  mine = padded[sharding.process_rows(mesh, len(padded))]
  select = Selection("center_wise", 20, 30, 8, probes, 5)
  table, _, rows = select(
    mesh,
    sharding.put_rows(mesh, mine),
    num_images=len(bank),
    epoch=0,
    labels=None,
    previous=None,
  )
  return [*table, rows.assignment, rows.closeness]


def main() -> None:
  port, processes, process, bank, result = sys.argv[1:]
  jax.distributed.initialize(f"localhost:{port}", int(processes), int(process))
  # In turn from each process, as a TPU's come: the mesh is to sort them.
  in_turn = np.array(jax.devices()).reshape(int(processes), -1).T.ravel()
  assert [device.process_index for device in in_turn] == [0, 1, 0, 1]
  mesh = sharding.make_mesh(in_turn)
  found = [array for probes in (0, 3) for array in select(np.load(bank), mesh, probes)]
  if process == "0":
    np.savez(result, *found)


if __name__ == "__main__":
  main()
