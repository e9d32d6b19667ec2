"""What a config costs on TPU, by compiling for a topology; no TPU is needed.

  python benchmarks/tpu_compile.py --config=configs/clim_imagenet.py \
    --topology=v5e:2x4 --program=step --batch-per-chip 32 64
  python benchmarks/tpu_compile.py --topology=v4:2x2x2 --program=neighbours

A train step's bound is the slower of its FLOP and of its bytes to and from HBM, at the
chip's published peaks. The compiler's estimate of cycles holds what vector units and
on-chip memory take as well, but not what a Pallas kernel does. `augmentation` is that
of one view of 224 pixels, by its kernel and by XLA's operations. The search and k-means
are loops, whose body the compiler counts once, so for them only memory is told. Needs
libtpu (Linux, x86-64), from requirements-dev.txt.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import runpy
import sys
import time
from collections.abc import Iterator

os.environ["JAX_PLATFORMS"] = "cpu"
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from jax.sharding import Mesh

from benchmarks import tpu_programs
from benchmarks.measurement import progress
from clim_jax.augment.policy import IMPLEMENTATIONS
from clim_jax.plan import programs
from clim_jax.plan.tpu import chips, cost
from clim_jax.selection.search.scoring import SCORINGS

_IMAGES, _CENTERS, _NEIGHBOURS, _ITERATIONS = 1_281_167, 3000, 40, 20


@dataclasses.dataclass(frozen=True)
class Result:
  program: str
  topology: str
  device: str
  devices: int
  compile_seconds: float
  memory_gib: float  # arguments and temporaries of one device
  fits: bool
  batch_per_chip: int | None = None
  gflop: float | None = None
  hbm_gb: float | None = None
  augment_gb: float | None = None  # of those, of photometric augmentation
  accessed_gb: float | None = None  # on-chip memory included
  million_cycles: float | None = None  # by the compiler's estimate of each operation
  augment_million_cycles: float | None = None  # of those, but for a kernel's
  collective_mb: float | None = None
  bound: str | None = None  # what the roofline's bound is: flops | bytes
  images_per_second: float | None = None  # of one device, at that bound


def compiled_cost(
  program: str, topology: str, mesh: Mesh, batch_per_chip: int | None, lower: object
) -> Result:
  """Compiles one program; if it does not fit, the compiler's own error is shown."""
  chip = chips.chip_of(mesh)
  progress(f"{program}, {topology}, {batch_per_chip or ''}")
  started = time.perf_counter()
  compiled = chips.compile_readably(lower(), mesh)
  memory = cost.memory_bytes(compiled)
  result = Result(
    program,
    topology,
    mesh.devices.flat[0].device_kind,
    mesh.devices.size,
    round(time.perf_counter() - started, 1),
    round(memory / 2**30, 2),
    memory <= chip.memory,
  )
  if batch_per_chip is None:
    return result
  told = cost.cost_of(compiled)
  by_flops, by_bytes = told.flops / chip.flops, told.hbm_bytes / chip.bandwidth
  return dataclasses.replace(
    result,
    batch_per_chip=batch_per_chip,
    gflop=round(told.flops / 1e9, 1),
    hbm_gb=round(told.hbm_bytes / 1e9, 2),
    augment_gb=round(told.augment_bytes / 1e9, 2),
    accessed_gb=round(told.bytes_accessed / 1e9, 2),
    million_cycles=round(told.cycles / 1e6, 2),
    augment_million_cycles=round(told.augment_cycles / 1e6, 2),
    collective_mb=round(told.collective_bytes / 1e6, 1),
    bound="flops" if by_flops > by_bytes else "bytes",
    images_per_second=round(batch_per_chip / max(by_flops, by_bytes)),
  )


def results_of(options: argparse.Namespace) -> Iterator[Result]:
  mesh = chips.topology_mesh(options.topology)
  if options.program == "step":
    config = runpy.run_path(options.config)["get_config"]()
    for batch in options.batch_per_chip:
      yield compiled_cost(
        config.name,
        options.topology,
        mesh,
        batch,
        lambda batch=batch: tpu_programs.lower_step(config, mesh, batch),
      )
  elif options.program == "augmentation":
    for batch in options.batch_per_chip:
      for implementation in IMPLEMENTATIONS:
        yield compiled_cost(
          f"augmentation, {implementation}",
          options.topology,
          mesh,
          batch,
          lambda batch=batch, implementation=implementation: (
            tpu_programs.lower_augmentation(
              mesh,
              batch_per_chip=batch,
              side=224,
              implementation=implementation,
            )
          ),
        )
  elif options.program == "neighbours":
    for scoring in SCORINGS:
      yield compiled_cost(
        f"neighbours, {scoring}",
        options.topology,
        mesh,
        None,
        lambda scoring=scoring: programs.lower_neighbours(
          mesh,
          images=_IMAGES,
          dim=options.dim,
          num_neighbours=_NEIGHBOURS,
          scoring=scoring,
        ),
      )
  else:
    yield compiled_cost(
      "kmeans",
      options.topology,
      mesh,
      None,
      lambda: programs.lower_kmeans(
        mesh,
        images=_IMAGES,
        dim=options.dim,
        num_centers=_CENTERS,
        iterations=_ITERATIONS,
      ),
    )


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--topology", default="v5e:2x4")
  parser.add_argument(
    "--program",
    choices=("step", "augmentation", "neighbours", "kmeans"),
    default="step",
  )
  parser.add_argument("--config", default="configs/clim_imagenet.py")
  parser.add_argument("--batch-per-chip", type=int, nargs="+", default=[32, 64, 128])
  parser.add_argument("--dim", type=int, default=2048)
  parser.add_argument("--json", action="store_true")
  options = parser.parse_args()
  for result in results_of(options):
    record = dataclasses.asdict(result)
    if options.json:
      print(json.dumps(record), flush=True)
    else:
      shown = {key: value for key, value in record.items() if value is not None}
      print("  ".join(f"{key} {value}" for key, value in shown.items()), flush=True)


if __name__ == "__main__":
  main()
