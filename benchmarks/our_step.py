"""Our train step on given views; as a program, a side of train_step.py with N devices.

Run by it, not by hand: prints "ready", then for every line read a JSON object with the
seconds and the loss of a step.
"""

import argparse
import json
import os
import pathlib
import sys
import time
import types
from collections.abc import Callable
from typing import NamedTuple

os.environ["JAX_PLATFORMS"] = "cpu"
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import jax
import numpy as np
from ml_collections import ConfigDict

from clim_jax import sharding
from clim_jax.configs import digits
from clim_jax.experiment.experiment import Experiment
from clim_jax.memory import keep_freed_memory
from clim_jax.method.batch import Batch
from clim_jax.pretrain.counted_step import CountedStep


class OurStep(NamedTuple):
  take: Callable[[int], float]  # so many steps, the last waited for; its loss
  program: CountedStep


def make_step(config: ConfigDict, *, devices: int, clim: bool) -> OurStep:
  """The step of a config without photometric augmentation, on random images.

  Args:
    config: sides, network, batch size and queue are used.
    devices: of this machine's.
    clim: True mixes every anchor with a positive; False is MoCo v2.
  """
  config.selection.rule = "center_wise" if clim else "none"
  for key in config.augment:
    if key.endswith("probability"):
      config.augment[key] = 0.0
  mesh = sharding.make_mesh(jax.devices()[:devices])
  experiment = Experiment(config, mesh, types.SimpleNamespace(num_images=50_000), None)
  step, state = CountedStep(experiment.train_step()), experiment.init_state()
  batch = sharding.put_rows(mesh, _batch(config, clim=clim))

  def take(steps: int) -> float:
    nonlocal state
    for _ in range(steps):
      state, metrics = step(state, batch)
    return float(jax.block_until_ready((state, metrics))[1]["loss"])

  return OurStep(take, step)


def _batch(config: ConfigDict, *, clim: bool) -> Batch:
  rng, size = np.random.default_rng(0), config.batch_size

  def images(side: int) -> np.ndarray:
    return rng.integers(0, 256, (size, side, side, 3), dtype=np.uint8)

  sides, rows = config.views.sides, np.arange(size, dtype=np.int32)
  return Batch(
    query=tuple(map(images, sides)),
    key=images(sides[0]),
    positive_query=tuple(map(images, sides)) if clim else (),
    positive_key=images(sides[0]) if clim else None,
    has_positive=np.full(size, clim),
    key_row=rows,
    query_row=rows,
  )


def largest_side_only(config: ConfigDict) -> ConfigDict:
  """For peers that know one side; changes and returns the config."""
  for key in ("sides", "min_scales", "max_scales"):
    config.views[key] = config.views[key][:1]
  return config


def digits_config() -> ConfigDict:
  return largest_side_only(digits.get_config())


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--devices", type=int, required=True)
  options = parser.parse_args()
  keep_freed_memory(of_programs=True)  # as main.py does on a CPU
  step = make_step(digits_config(), devices=options.devices, clim=True)
  step.take(1)
  print("ready", flush=True)
  for _ in sys.stdin:
    start = time.perf_counter()
    loss = step.take(1)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "loss": loss}), flush=True)


if __name__ == "__main__":
  main()
