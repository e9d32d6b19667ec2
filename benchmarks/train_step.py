"""The train step against MoCo v2's in PyTorch, on this machine's CPU.

  benchmarks/setup_peers.sh
  python benchmarks/train_step.py --json

ResNet-18 for 32 px, float32, a queue of 4,096, two given views a row: our step runs
without photometric augmentation, as the peer's does. Steps of both sides alternate, the
peer in a process of its own; figures are medians. `--bars` fails where a bar is missed.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import sys
import time
import types
from collections.abc import Callable

os.environ["JAX_PLATFORMS"] = "cpu"
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import jax
import numpy as np

from benchmarks.measurement import progress
from benchmarks.peer_process import PeerProcess, require_peers
from clim_jax import sharding
from clim_jax.batch import Batch
from clim_jax.experiment import Experiment
from configs import cifar10

_BAR = 1.0
# Batch and whether the peer is compiled.
CASES = {
  "resnet18_64_eager": (64, False),
  "resnet18_64_compile": (64, True),
  "resnet18_256_eager": (256, False),
  "resnet18_256_compile": (256, True),
}


@dataclasses.dataclass(frozen=True)
class Result:
  case: str
  threads: int
  repeats: int
  first_step_seconds: float  # ours, with compilation
  ours_seconds: float
  peer: str
  peer_seconds: float
  ratio: float  # of images a second, ours to the peer's
  ours_images_per_second: float


def our_step(batch_size: int) -> Callable[[], None]:
  """A function that takes one step of MoCo v2 and waits for it."""
  config = cifar10.get_config()
  config.batch_size = batch_size
  config.selection.rule = "none"
  config.moco.queue_size = 4096
  config.model.batch_norm_groups = 1  # as the peer's
  for key in config.augment:
    if key.endswith("probability"):
      config.augment[key] = 0.0
  mesh = sharding.make_mesh(jax.devices()[:1])
  source = types.SimpleNamespace(num_images=50_000)
  experiment = Experiment(config, mesh, source, None)
  step, state = experiment.train_step(), experiment.init_state()
  rng, rows = np.random.default_rng(0), np.arange(batch_size, dtype=np.int32)
  shape = (batch_size, 32, 32, 3)
  views = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(2)]
  nobody = np.zeros(batch_size, bool)
  batch = Batch((views[0],), views[1], (), None, nobody, rows, rows, rows)
  batch = sharding.put_rows(mesh, batch)

  def take() -> None:
    nonlocal state
    state, metrics = step(state, batch)
    jax.block_until_ready((state, metrics))

  return take


def _timed(function: Callable[[], None]) -> float:
  start = time.perf_counter()
  function()
  return time.perf_counter() - start


def measure(name: str, repeats: int) -> Result:
  batch, compiled = CASES[name]
  threads = os.cpu_count() or 1
  progress(name)
  arguments = [f"--batch={batch}", f"--threads={threads}"] + ["--compile"] * compiled
  peer = PeerProcess("torch_step.py", *arguments)
  take = our_step(batch)
  first = _timed(take)
  pairs = []
  for _ in range(repeats):
    pairs.append((_timed(take), peer.ask()["seconds"]))
    progress(f"  ours {pairs[-1][0]:.2f} s, peer {pairs[-1][1]:.2f} s")
  peer.close()
  ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
  kind = "torch.compile" if compiled else "PyTorch eager, channels_last"
  return Result(
    name, threads, repeats, first, ours, kind, theirs, theirs / ours, batch / ours
  )


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--json", action="store_true")
  parser.add_argument("--bars", action="store_true")
  options = parser.parse_args()
  require_peers()
  misses = []
  for name in options.case:
    result = measure(name, options.repeats)
    if options.json:
      print(json.dumps(dataclasses.asdict(result)), flush=True)
    else:
      print(
        f"{name}: ours {result.ours_seconds:.3f} s, {result.peer} "
        f"{result.peer_seconds:.3f} s, ratio {result.ratio:.2f}",
        flush=True,
      )
    if result.ratio < _BAR:
      misses.append(f"{name}: ratio {result.ratio:.2f} < {_BAR}")
  if options.bars and misses:
    sys.exit("\n".join(misses))


if __name__ == "__main__":
  main()
