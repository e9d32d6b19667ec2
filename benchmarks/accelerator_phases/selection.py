"""Exact neighbours and k-means of banks of ImageNet's size, beside PyTorch's search."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from benchmarks.accelerator_phases.phase import Phase, peak_memory_gib
from clim_jax import sharding
from clim_jax.selection import kmeans
from clim_jax.selection.search.exact import exact_neighbours

_NEIGHBOURS = 40
_SCORINGS = ("bfloat16", "float32")


def measure(phase: Phase) -> None:
  banks = phase.sized(((200_000, 2048), (1_281_167, 128)), ((1500, 64),))
  neighbours, block = phase.sized((_NEIGHBOURS, 2048), (10, 512))
  for rows, dim in banks:
    for dtype in ("bfloat16", "float32"):
      phase.peer(
        f"{rows:,} × {dim} {dtype}, PyTorch",
        "torch_neighbours",
        60,
        **dict(rows=rows, dim=dim, dtype=dtype, neighbours=neighbours),
        **dict(block=block, blocks=phase.sized(20, 2)),
      )
  mesh = sharding.make_mesh()
  for rows, dim in reversed(banks):
    bank = _bank(mesh, rows, dim)
    for scoring in _SCORINGS:
      if not phase.wants(f"{rows:,} × {dim} {scoring}"):
        continue
      with phase.attempt(f"{rows:,} × {dim} {scoring}"):
        _search(phase, mesh, bank, rows, scoring, neighbours)
    if phase.wants(f"{rows:,} × {dim} k-means"):
      with phase.attempt(f"{rows:,} × {dim} k-means"):
        _cluster(phase, mesh, bank, rows, phase.sized(2000, 30))
    del bank


def _bank(mesh: Mesh, rows: int, dim: int) -> jax.Array:
  """Unit rows around 1,000 means, made on the devices, [N_pad, D] float32."""
  padded = -(-rows // mesh.devices.size) * mesh.devices.size

  def make() -> jax.Array:
    means_rng, noise_rng, choice_rng = jax.random.split(jax.random.key(0), 3)
    means = jax.random.normal(means_rng, (1000, dim))
    choice = jax.random.randint(choice_rng, (padded,), 0, len(means))
    made = means[choice] + jax.random.normal(noise_rng, (padded, dim))
    return made / jnp.linalg.norm(made, axis=1, keepdims=True)

  placed = NamedSharding(mesh, sharding.ROWS)
  return jax.block_until_ready(jax.jit(make, out_shardings=placed)())


def _search(
  phase: Phase, mesh: Mesh, bank: jax.Array, rows: int, scoring: str, neighbours: int
) -> None:
  search = functools.partial(
    exact_neighbours,
    mesh,
    bank,
    num_images=rows,
    num_neighbours=neighbours,
    scoring=scoring,
  )
  first, seconds = _twice(search)
  phase.report(
    f"{rows:,} × {bank.shape[1]} {scoring}",
    rows=rows,
    dim=bank.shape[1],
    neighbours=neighbours,
    first_seconds=first,
    seconds=seconds,
    tflops=2e-12 * rows**2 * bank.shape[1] / seconds,  # of all pairs, as the peer's
    peak_memory_gib=peak_memory_gib(),
  )


def _cluster(
  phase: Phase, mesh: Mesh, bank: jax.Array, rows: int, centers: int
) -> None:
  whole, by_row = sharding.REPLICATED, sharding.ROWS
  taken = {}
  for iterations in (1, 6):
    cluster = sharding.spmd(
      functools.partial(
        kmeans.spherical_kmeans,
        num_images=rows,
        num_centers=centers,
        iterations=iterations,
      ),
      mesh,
      in_specs=(whole, by_row),
      out_specs=kmeans.Clustering(whole, by_row, by_row),
    )
    _, taken[iterations] = _twice(lambda c=cluster: c(jax.random.key(0), bank))
  phase.report(
    f"{rows:,} × {bank.shape[1]} k-means",
    centers=centers,
    seconds_of_one_iteration=(taken[6] - taken[1]) / 5,
    seconds_of_seeding_and_one=taken[1],
    peak_memory_gib=peak_memory_gib(),
  )


def _twice(function: Callable[[], Any]) -> tuple[float, float]:
  """Seconds of a call that compiles, and of the next."""
  taken = []
  for _ in range(2):
    started = time.perf_counter()
    jax.block_until_ready(function())
    taken.append(time.perf_counter() - started)
  return tuple(taken)
