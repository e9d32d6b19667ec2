"""The train step against MoCo v2's in PyTorch, and against itself, on a CPU.

  benchmarks/setup_peers.sh
  python benchmarks/train_step.py --json

`resnet18_*` (32 px, a queue of 4,096), `resnet18_imagenet_*` (64 px by the ImageNet
stem, whose last maps have 2 × 2 pixels; a queue of 2,048) and `digits_*` (the default
network, side and queue) compare MoCo v2's step with PyTorch's; `clim_*` compares CLIM's
with our own MoCo v2; `devices_8` the digits step with CLIM on eight emulated devices
with one, at the same batch. All in float32 on given views, without photometric
augmentation. Both sides take turns of equally many steps, for the slower about `--turn`
seconds; figures are medians over the turns of a step's mean time. Of ours, the last
step of a turn is waited for, as in a run, which waits when it logs. Ours keep freed
memory, and small networks have a device for each core, as by main.py on a CPU. `--bars`
fails where a bar is missed.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

os.environ["JAX_PLATFORMS"] = "cpu"
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import jax
import joblib
from ml_collections import ConfigDict

from benchmarks.measurement import progress
from benchmarks.our_step import OurStep, digits_config, largest_side_only, make_step
from benchmarks.peer_process import PeerProcess, require_peers
from clim_jax.configs import cifar10, imagenette
from clim_jax.experiment.cores import is_small, one_device_per_core
from clim_jax.memory import keep_freed_memory
from clim_jax.models.resnet import ARCHITECTURES

_MOST_COST = 2.2  # of CLIM's step, in MoCo v2's
_GROUPS = 8  # of batch normalisation, in all configs


def _resnet18_imagenet() -> ConfigDict:
  config = largest_side_only(imagenette.get_config())
  config.model.stem = "imagenet"
  return config


class PeerCase(NamedTuple):
  config: Callable[[], ConfigDict]
  batch: int
  compiled: bool


PEER_CASES = {
  f"{name}_{batch}_{'compile' if compiled else 'eager'}": PeerCase(
    config, batch, compiled
  )
  for name, config, batch in (
    ("resnet18", cifar10.get_config, 64),
    ("resnet18", cifar10.get_config, 256),
    ("resnet18_imagenet", _resnet18_imagenet, 64),
    ("digits", digits_config, 64),
  )
  for compiled in (False, True)
}
COST_CASES = {
  "clim_resnet18_64": cifar10.get_config,
  "clim_digits_64": digits_config,
}
CASES = [*PEER_CASES, *COST_CASES, "devices_8"]


@dataclasses.dataclass(frozen=True)
class Result:
  case: str
  threads: int
  repeats: int
  ours_seconds: float
  peer: str
  peer_seconds: float
  ratio: float  # of images a second, ours to the peer's
  missed: bool | None  # the bar; None without one
  devices: int | None = None  # ours, where the machine says how many
  first_step_seconds: float | None = None  # ours, with compilation
  flop_ratio: float | None = None  # of a step, ours to the peer's
  loss_difference: float | None = None  # the largest of all steps, relative


class Turns(NamedTuple):
  ours: float  # median of the seconds
  peer: float


def _seconds(step: OurStep, steps: int) -> float:
  start = time.perf_counter()
  step.take(steps)
  return time.perf_counter() - start


def _asked(process: PeerProcess, steps: int) -> float:
  return sum(process.ask()["seconds"] for _ in range(steps))


def _alternate(
  ours: Callable[[int], float],
  peer: Callable[[int], float],
  repeats: int,
  turn: float,
) -> Turns:
  """Medians, over `repeats` turns of each, of the mean seconds of a step.

  A turn takes the slower side `turn` seconds, or is one step. In a run, steps follow
  each other; the first after another process's finds its caches cold.

  Args:
    ours: takes so many steps, tells the seconds of all.
    peer: likewise.
    repeats: turns of each.
    turn: in seconds; 0 is one step.
  """
  steps = max(1, round(turn / max(ours(1), peer(1))))
  pairs = []
  for _ in range(repeats):
    pairs.append((ours(steps) / steps, peer(steps) / steps))
    progress(f"  ours {pairs[-1][0]:.3f} s, peer {pairs[-1][1]:.3f} s")
  return Turns(*(statistics.median(side) for side in zip(*pairs, strict=True)))


def _small(config: ConfigDict, batch: int) -> ConfigDict:
  config.batch_size = batch
  config.moco.queue_size = min(config.moco.queue_size, 4096)
  return config


def _devices(config: ConfigDict) -> int:
  return jax.device_count() if is_small(config.model) else 1


def measure_peer(name: str, repeats: int, turn: float) -> Result:
  """MoCo v2's step against PyTorch's."""
  case = PEER_CASES[name]
  threads, config = joblib.cpu_count(), _small(case.config(), case.batch)
  devices = _devices(config)
  config.model.batch_norm_groups = devices  # the fewest; the peer has one
  _, layers = ARCHITECTURES[config.model.backbone]
  shape = {
    "batch": case.batch,
    "threads": threads,
    "stem": config.model.stem,
    "width": config.model.width,
    "hidden": config.model.hidden_dim,
    "side": config.views.sides[0],
    "queue": config.moco.queue_size,
  }
  arguments = ["--layers", *map(str, layers), *(f"--{k}={v}" for k, v in shape.items())]
  peer = PeerProcess("torch_step.py", *arguments, *["--compile"] * case.compiled)
  step = make_step(config, devices=devices, clim=False)
  first = _seconds(step, 1)
  turns = _alternate(
    functools.partial(_seconds, step), functools.partial(_asked, peer), repeats, turn
  )
  peer.close()
  kind = "torch.compile" if case.compiled else "PyTorch eager, channels_last"
  ratio = turns.peer / turns.ours
  return Result(
    name,
    threads,
    repeats,
    turns.ours,
    kind,
    turns.peer,
    ratio,
    ratio < 1,
    devices,
    first_step_seconds=first,
  )


def measure_cost(name: str, repeats: int, turn: float) -> Result:
  """CLIM's step against our MoCo v2."""
  devices = _devices(COST_CASES[name]())

  def make(*, clim: bool) -> OurStep:
    step = make_step(_small(COST_CASES[name](), 64), devices=devices, clim=clim)
    step.take(1)
    return step

  clim, moco = make(clim=True), make(clim=False)
  turns = _alternate(
    functools.partial(_seconds, clim), functools.partial(_seconds, moco), repeats, turn
  )
  return Result(
    name,
    joblib.cpu_count(),
    repeats,
    turns.ours,
    "our MoCo v2",
    turns.peer,
    turns.peer / turns.ours,
    turns.ours > _MOST_COST * turns.peer,
    devices,
    flop_ratio=clim.program.flops / moco.program.flops,
  )


def measure_devices(repeats: int, turn: float) -> Result:
  """Eight emulated devices against one."""
  sides = [
    PeerProcess(
      "our_step.py",
      f"--devices={count}",
      python=sys.executable,
      env={"JAX_NUM_CPU_DEVICES": str(count)},
    )
    for count in (8, 1)
  ]
  losses: list[list[float]] = [[], []]

  def ask(side: int, steps: int) -> float:
    answers = [sides[side].ask() for _ in range(steps)]
    losses[side].extend(answer["loss"] for answer in answers)
    return sum(answer["seconds"] for answer in answers)

  turns = _alternate(
    functools.partial(ask, 0), functools.partial(ask, 1), repeats, turn
  )
  for side in sides:
    side.close()
  return Result(
    "devices_8",
    joblib.cpu_count(),
    repeats,
    turns.ours,
    "ours on one device",
    turns.peer,
    turns.peer / turns.ours,
    None,
    loss_difference=max(abs(a / b - 1) for a, b in zip(*losses, strict=True)),
  )


def measure(name: str, repeats: int, turn: float) -> Result:
  progress(name)
  if name in PEER_CASES:
    return measure_peer(name, repeats, turn)
  if name in COST_CASES:
    return measure_cost(name, repeats, turn)
  return measure_devices(repeats, turn)


def _shown(result: Result) -> Iterator[str]:
  for key, value in dataclasses.asdict(result).items():
    if value is not None:
      yield f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--case", nargs="+", choices=CASES, default=CASES)
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--turn", type=float, default=0.5, help="seconds; 0: one step")
  parser.add_argument("--json", action="store_true")
  parser.add_argument("--bars", action="store_true")
  options = parser.parse_args()
  require_peers()
  keep_freed_memory(of_programs=True)  # as main.py does on a CPU
  one_device_per_core(lambda devices: _GROUPS % devices == 0)
  missed = []
  for name in options.case:
    result = measure(name, options.repeats, options.turn)
    as_json = json.dumps(dataclasses.asdict(result))
    print(as_json if options.json else "  ".join(_shown(result)), flush=True)
    if result.missed:
      missed.append(f"{name}: ratio {result.ratio:.2f}")
  if options.bars and missed:
    sys.exit("bars missed:\n" + "\n".join(missed))


if __name__ == "__main__":
  main()
