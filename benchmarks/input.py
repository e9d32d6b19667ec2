"""The input pipeline against PyTorch's DataLoader, in images a second.

  benchmarks/setup_peers.sh
  python benchmarks/input.py --json

Three peers a case: `recipe` is MoCo v2's list of transforms by PIL, all that PyTorch's
users do on the host; `crops_pil` and `crops_tensor` only crop and resize, as our
pipeline does, because photometric augmentation is part of our step. What that takes is
measured too, on this machine's CPU, and `all_on_cpu_ratio` counts it to our side.

Both sides have a worker a core, and take turns of some batches each, after emptying
what they had prepared; before a turn the other side has time to prepare anew, which
would else be billed to this one. Figures are medians. JPEGs are generated, or come by
`--folder` (one folder of images). `--bars` fails where `recipe` misses the bar.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import jax
import joblib
import numpy as np

from benchmarks.jpegs import write_jpegs
from benchmarks.measurement import progress
from benchmarks.peer_process import PeerProcess, require_peers
from clim_jax.augment.apply import augment
from clim_jax.augment.policy import Policy
from clim_jax.configs import base
from clim_jax.data.crops import RandomCrop
from clim_jax.data.cuts import ViewPlan
from clim_jax.data.index_stream import IndexStream
from clim_jax.data.pipeline import train_batches
from clim_jax.data.source import Source
from clim_jax.data.sources import load_source
from clim_jax.memory import keep_freed_memory
from clim_jax.selection.positives import Positives

_IMAGES, _FOREVER = 256, 10**9
_DRAINED = 8  # batches, more than our pipeline can have prepared
_PEERS = ("recipe", "crops_pil", "crops_tensor")


class Case(NamedTuple):
  sides: tuple[int, ...]
  positive: bool
  batch: int
  batches: int  # a turn
  bar: float
  arrays: bool = False


CASES = {
  "two_views_jpeg": Case((224,), False, 32, 8, 2.0),
  "five_sides_jpeg": Case((224, 192, 160, 128, 96), True, 16, 5, 2.0),
  "two_views_cifar": Case((32,), False, 256, 12, 5.0, arrays=True),
}


@dataclasses.dataclass(frozen=True)
class Result:
  case: str
  peer: str
  workers: int
  repeats: int
  ours_images_per_second: float  # anchors, each with all of its crops
  peer_images_per_second: float
  ratio: float
  photometric_ms: float  # an anchor, by our step, on this CPU
  all_on_cpu_ratio: float | None  # with it counted to our side; if the peer does it


def _open(
  case: Case, folder: pathlib.Path, scratch: pathlib.Path
) -> tuple[Source, str]:
  """Our source and the path that the peer reads."""
  options = {"test_path": "", "tfds_name": "", "test_split": "", "test_fraction": 0.0}
  if case.arrays:
    path = scratch / "arrays.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (50_000, 32, 32, 3), np.uint8)
    np.savez(path, image=pixels)
    source, _ = load_source("npz", path=str(path), train_split="", **options)
    return source, str(path)
  source, _ = load_source("folder", path=str(folder), train_split="train", **options)
  return source, str(folder / "train")


def _our_batches(case: Case, source: Source) -> Iterator[Any]:
  crops = tuple(RandomCrop(side, (0.2, 1.0), (3 / 4, 4 / 3)) for side in case.sides)
  plan = ViewPlan(crops, positive_queries=True)
  n = source.num_images
  stream = IndexStream(0, n, case.batch, plan.num_crops)
  others = Positives(
    np.roll(np.arange(n, dtype=np.int32), -1), np.arange(n), np.ones(n, np.int32)
  )
  return train_batches(
    source,
    stream,
    plan,
    first_step=0,
    last_step=_FOREVER,
    positives=others if case.positive else None,
    rows=slice(0, case.batch),
  )


def _turn(batches: Iterator[Any], count: int) -> float:
  for _ in range(_DRAINED):
    next(batches)
  start = time.perf_counter()
  for _ in range(count):
    next(batches)
  return time.perf_counter() - start


def _photometric_seconds(case: Case) -> float:
  """Of MoCo v2's photometric augmentation of all crops of an anchor, by our code."""
  config = base.get_config().augment
  if case.arrays:
    config.blur_probability = 0.0  # as the peer's: 32 pixels are not blurred
  policy = Policy(**config.to_dict())
  apply = jax.jit(functools.partial(augment, policy=policy))
  total, rngs = 0.0, jax.random.split(jax.random.key(0), case.batch)
  for side in (*case.sides, case.sides[0]):
    images = np.full((case.batch, side, side, 3), 128, np.uint8)
    apply(rngs, images).block_until_ready()
    seconds = []
    for _ in range(3):
      start = time.perf_counter()
      apply(rngs, images).block_until_ready()
      seconds.append(time.perf_counter() - start)
    total += statistics.median(seconds)
  return total * (1 + case.positive) / case.batch


def measure(
  name: str, repeats: int, folder: pathlib.Path, scratch: pathlib.Path
) -> Iterator[Result]:
  """Compares with each peer in turn."""
  case, workers = CASES[name], joblib.cpu_count()
  source, data = _open(case, folder, scratch)
  photometric = _photometric_seconds(case)  # before any crops are being prepared
  batches = _our_batches(case, source)
  _turn(batches, case.batches)  # while the number of parallel calls settles
  anchors = case.batch * case.batches
  for mode in _PEERS:
    progress(f"{name}, {mode}")
    sides = [str(side) for side in case.sides]
    arguments = ["--data", data, "--mode", mode, "--sides", *sides]
    arguments += ["--positive"] * case.positive + [f"--batch={case.batch}"]
    arguments += [f"--batches={case.batches}", f"--workers={workers}"]
    peer = PeerProcess("torch_input.py", *arguments)
    pairs = []
    for _ in range(repeats):
      ours = _turn(batches, case.batches)
      time.sleep(ours)
      theirs = peer.ask()["seconds"]
      time.sleep(theirs)
      pairs.append((ours, theirs))
      progress(f"  ours {ours:.2f} s, peer {theirs:.2f} s")
    peer.close()
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    everything = ours + anchors * photometric
    yield Result(
      name,
      mode,
      workers,
      repeats,
      anchors / ours,
      anchors / theirs,
      theirs / ours,
      1e3 * photometric,
      theirs / everything if mode == "recipe" else None,
    )


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--folder", type=pathlib.Path)
  parser.add_argument("--json", action="store_true")
  parser.add_argument("--bars", action="store_true")
  options = parser.parse_args()
  require_peers()
  keep_freed_memory(of_programs=True)  # as main.py does on a CPU
  misses = []
  with tempfile.TemporaryDirectory() as scratch:
    scratch = pathlib.Path(scratch)
    folder = scratch / "jpegs"
    if options.folder:
      folder.mkdir()
      (folder / "train").symlink_to(options.folder.resolve())
    elif any(not CASES[name].arrays for name in options.case):
      write_jpegs(folder / "train", _IMAGES)
    for name in options.case:
      for result in measure(name, options.repeats, folder, scratch):
        record = {
          key: round(value, 3) if isinstance(value, float) else value
          for key, value in dataclasses.asdict(result).items()
        }
        if options.json:
          print(json.dumps(record), flush=True)
        else:
          print(
            "  ".join(f"{key} {value}" for key, value in record.items()), flush=True
          )
        if result.peer == "recipe" and result.ratio < CASES[name].bar:
          misses.append(f"{name}: ratio {result.ratio:.2f} < {CASES[name].bar}")
  if options.bars and misses:
    sys.exit("\n".join(misses))


if __name__ == "__main__":
  main()
