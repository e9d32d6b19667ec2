"""Whether the device computes what a CPU does: losses, and who is whose positive.

python -m benchmarks.accelerator_phases.agreement writes agreement.json anew, on a CPU:
where losses were changed on purpose.
"""

import dataclasses
import json
import pathlib

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.accelerator_phases import programs
from benchmarks.accelerator_phases.phase import Phase
from clim_jax import sharding
from clim_jax.selection.refresh import Rows, Selection

_SHAPE = programs.Shape(
  *("resnet_small", "cifar", (32,), 64, 512, programs.CIFAR),
  **dict(width=16, hidden=64, dtype="float32", momentum=0.99, learning_rate=0.3),
)
_STEPS = 20
_REFERENCE = pathlib.Path(__file__).with_name("agreement.json")
_MOST = 1e-3  # of float32 losses, relative


def measure(phase: Phase) -> None:
  reference = json.loads(_REFERENCE.read_text())
  mesh = sharding.make_mesh()
  for case, positives in (("MoCo v2", False), ("CLIM", True)):
    expected = np.array(reference[case])
    limits = (("float32", _MOST), ("bfloat16", None))
    for dtype, limit in limits[: phase.sized(2, 1 if positives else 2)]:
      if not phase.wants(f"{case} {dtype}"):
        continue
      with phase.attempt(f"{case} {dtype}"):
        shape = dataclasses.replace(_SHAPE, dtype=dtype)
        found = losses(mesh, shape, positives=positives)
        difference = np.abs(found / expected - 1).max()
        phase.report(
          f"{case} {dtype}",
          steps=_STEPS,
          largest_relative_difference=float(difference),
          limit=limit,
          agrees=limit and bool(difference <= limit),
          last_loss=float(found[-1]),
        )
  rows = phase.sized(20_000, 2_000)
  for scoring in ("float32", "bfloat16"):
    if not phase.wants(f"selection {scoring}"):
      continue
    with phase.attempt(f"selection {scoring}"):
      _judge_selection(phase, mesh, rows, scoring)


def losses(mesh: Mesh, shape: programs.Shape, *, positives: bool) -> np.ndarray:
  """Of so many steps, each on a batch of its own."""
  with jax.default_matmul_precision("highest" if shape.dtype == "float32" else None):
    program, found = programs.make_program(mesh, shape), []
    state = program.state
    for seed in range(_STEPS):
      batch = programs.random_batch(shape, positives=positives, seed=seed)
      state, metrics = program.step(state, sharding.put_rows(mesh, batch))
      found.append(metrics["loss"])
    return np.array([float(loss) for loss in found])


def tied_rows(count: int, dim: int = 128) -> np.ndarray:
  """Unit rows whose products are multiples of 1/64, so exact: most have equals."""
  rng = np.random.default_rng(0)
  groups = rng.integers(0, max(count // 100, 2), count)
  signs = rng.choice([-1, 1], (groups.max() + 1, dim))
  signs *= rng.permuted(np.arange(dim) < 64, axis=None)[None]
  flips = rng.random((count, dim)) < 0.05
  return (np.where(flips, -1, 1) * signs[groups] / 8).astype(np.float32)


def _judge_selection(phase: Phase, mesh: Mesh, count: int, scoring: str) -> None:
  rows, neighbours = tied_rows(count), 40
  select = Selection(
    rule="center_wise",
    num_neighbours=neighbours,
    num_centers=max(count // 100, 2),
    kmeans_iterations=10,
    probes=0,
    seed=0,
    scoring=scoring,
  )
  padded = np.pad(rows, ((0, -count % mesh.devices.size), (0, 0)))
  mine = padded[sharding.process_rows(mesh, len(padded))]
  bank = sharding.put_rows(mesh, mine)

  def find() -> tuple:
    found: Rows = select.find(mesh, bank, num_images=count, epoch=0)
    return found.to_host(count), sharding.to_host(found.clustering.centers)

  (found, centers), (again, _) = find(), find()
  expected, kept = _by_numpy(rows, found.assignment, found.closeness, neighbours)
  closest = (rows @ centers.T).max(axis=1)
  phase.report(
    f"selection {scoring}",
    rows=count,
    same_neighbours=bool((found.neighbours == expected).all()),
    same_positives=bool((found.kept == kept).all()),
    same_on_a_second_run=all(
      np.array_equal(a, b) for a, b in zip(found, again, strict=True)
    ),
    closeness_off_by=float(np.abs(found.closeness - closest).max()),
    mean_positives=float(found.kept.sum(axis=1).mean()),
  )


def _by_numpy(
  rows: np.ndarray, assignment: np.ndarray, closeness: np.ndarray, neighbours: int
) -> tuple[np.ndarray, np.ndarray]:
  """Neighbours by exact products, equal ones by id; and which of them are positives."""
  found, count = [], len(rows)
  for start in range(0, count, 1000):
    block = rows[start : start + 1000]
    # Products are whole numbers of 1/64: with the id they make one number to sort by.
    order = np.rint(-64 * block @ rows.T).astype(np.int64) * count + np.arange(count)
    own = np.arange(len(block))
    order[own, own + start] = np.iinfo(np.int64).max
    nearest = np.partition(order, neighbours - 1, axis=1)[:, :neighbours]
    found.append(np.sort(nearest, axis=1) % count)
  found = np.concatenate(found)
  same = assignment[found] == assignment[:, None]
  return found, same & (closeness[found] > closeness[:, None])


def main() -> None:
  """Writes the losses of a CPU with one device."""
  mesh = sharding.make_mesh(jax.devices("cpu")[:1])
  cases = (("MoCo v2", False), ("CLIM", True))
  kept = {
    case: losses(mesh, _SHAPE, positives=positives).tolist()
    for case, positives in cases
  }
  _REFERENCE.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
  main()
