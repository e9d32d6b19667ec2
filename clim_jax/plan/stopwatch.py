"""Seconds of a run's parts, by doing a little of each on this machine."""

import dataclasses
import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from clim_jax import sharding
from clim_jax.evaluate.features import FeatureExtractor
from clim_jax.experiment.checkpoints import Checkpoint, Checkpoints
from clim_jax.experiment.experiment import Experiment, train_labels
from clim_jax.method.batch import Batch
from clim_jax.method.state import TrainState
from clim_jax.pretrain.meter import Meter
from clim_jax.selection.positives import RULES, Positives

_STEPS = (2, 40)  # timed, at least and at most
_WARM_STEPS = 4  # before them: batches that were ready when the first was asked for
_SECONDS = 3.0  # enough of steps, and of input
_ENDLESS = 2**31 - 1  # steps: as many as are asked for
_BANK_SAMPLE = 2048  # images encoded, where there are more
_SEARCH_SAMPLE = 8192  # images among which neighbours are looked for


@dataclasses.dataclass(frozen=True)
class StepTime:
  """Of one step, its input included."""

  seconds: float
  waiting: float  # share of them in which the devices wait for input
  timed: int  # steps


def any_positives(num_images: int) -> Positives:
  """A table with one image for each, drawn at random: it costs what a real one does."""
  ids = np.random.default_rng(0).permutation(num_images).astype(np.int32)
  ones = np.ones(num_images, np.int32)
  return Positives(ids, np.arange(num_images), ones)


def time_steps(
  experiment: Experiment,
  step: Callable[[TrainState, Batch], tuple[TrainState, Any]],
  state: TrainState,
  positives: Positives | None,
) -> tuple[TrainState, StepTime]:
  """Trains for a few steps, as the run will; `state` is consumed."""
  meter = Meter(
    experiment.config.batch_size,
    first_step=0,
    num_devices=experiment.mesh.devices.size,
    peak_flops=None,
  )
  batches = experiment.batches(0, _ENDLESS, positives)
  started = time.perf_counter()
  for _ in range(_WARM_STEPS):
    state, _ = jax.block_until_ready(step(state, meter.wait(batches)))
    if time.perf_counter() - started > _SECONDS:
      break
  meter.leave_out(0)
  started, lap = time.perf_counter(), []
  least, most = _STEPS
  for done in range(1, most + 1):
    batch = meter.wait(batches)
    jax.block_until_ready(lap[-2:-1])  # two steps under way, as in the run
    state, metrics = step(state, batch)
    lap.append(metrics)
    if done >= least and time.perf_counter() - started > _SECONDS:
      break
  jax.block_until_ready(state)
  figures = meter.lap(done, 0)
  seconds = experiment.config.batch_size / figures["images_per_second"]
  return state, StepTime(seconds, figures["data_wait_fraction"], done)


def time_input(experiment: Experiment, positives: Positives | None) -> float:
  """Anchors a second that this machine reads and crops with nothing else to do."""
  batches = experiment.batches(0, _ENDLESS, positives)
  for _ in range(_WARM_STEPS):
    jax.block_until_ready(next(batches))
  started = time.perf_counter()
  for done in itertools.count(1):
    jax.block_until_ready(next(batches))
    seconds = time.perf_counter() - started
    if seconds > _SECONDS / 2:
      return done * experiment.config.batch_size / seconds


@dataclasses.dataclass(frozen=True)
class SelectionTime:
  """Of one selection of all images."""

  bank: float  # seconds in which features are made
  search: float  # in which neighbours and clusters are found
  compiling: float  # once
  images: int  # encoded to find out


def time_selection(experiment: Experiment, state: TrainState) -> SelectionTime:
  """Selects twice among all images, or among some and puts the time up.

  Features take time by the number of images; clusters too; neighbours by its square.
  """
  images = experiment.train.num_images
  ids = np.random.default_rng(0).permutation(images)[:_BANK_SAMPLE]
  some = experiment.train.subset(np.sort(ids))
  extractor = FeatureExtractor(experiment, some)
  bank, first, second = _twice(
    lambda: extractor.bank(state.key_params, state.key_stats)
  )
  compiling, scale = first - second, images / some.num_images
  encoding = second * scale
  searched = min(images, _SEARCH_SAMPLE)
  if searched > some.num_images:
    bank = _any_bank(experiment, searched)
  search, growth = 0.0, images / searched
  for rule, power in _parts(experiment):
    selection = dataclasses.replace(experiment.selection, rule=rule)
    labels = train_labels(experiment)
    _, first, second = _twice(
      lambda selection=selection, labels=labels: selection(
        experiment.mesh,
        bank,
        num_images=searched,
        epoch=0,
        labels=None if labels is None else labels[:searched],
        previous=None,
      )
    )
    compiling += first - second
    search += second * growth**power
  return SelectionTime(encoding, search, max(compiling, 0.0), some.num_images)


def _parts(experiment: Experiment) -> list[tuple[str, int]]:
  """Rules to be timed one by one, and the power of the images by which each grows."""
  selection = experiment.selection
  if selection.rule == "none":
    return []
  if experiment.train.num_images <= _SEARCH_SAMPLE:
    return [(selection.rule, 1)]
  if selection.is_pruned:
    return [(selection.rule, 2)]
  parts = {"a": ("knn", 2), "b": ("cluster", 1)}
  return [parts[c] for c in RULES[selection.rule] if c in parts]


def _any_bank(experiment: Experiment, images: int) -> jax.Array:
  devices = experiment.mesh.devices.size
  rows = -(-images // devices) * devices
  features = np.random.default_rng(0).normal(size=(rows, experiment.feature_dim))
  features /= np.linalg.norm(features, axis=1, keepdims=True)
  local = sharding.process_rows(experiment.mesh, rows)
  return sharding.put_rows(experiment.mesh, features[local].astype(np.float32))


def _twice(do: Callable[[], Any]) -> tuple[Any, float, float]:
  """What it gives, and the seconds of the first time and of the second."""
  seconds = []
  for _ in range(2):
    started = time.perf_counter()
    result = jax.block_until_ready(do())
    seconds.append(time.perf_counter() - started)
  return result, *seconds


class Saved(NamedTuple):
  """One checkpoint."""

  blocking: float  # seconds that training stands still
  writing: float  # seconds of the background
  size: int  # bytes on disk


def time_save(path: epath.Path, state: TrainState) -> Saved:
  """Saves a state at `path`, which is removed again."""
  path = epath.Path(path)
  try:
    with Checkpoints(path, keep=1) as checkpoints:
      started = time.perf_counter()
      checkpoints.save(0, Checkpoint(state, None))
      blocked = time.perf_counter()
      checkpoints.wait()
      written = time.perf_counter()
    return Saved(blocked - started, written - blocked, _bytes_below(path / "0"))
  finally:
    path.rmtree(missing_ok=True)


def _bytes_below(path: epath.Path) -> int:
  if not path.is_dir():
    return path.stat().length
  return sum(map(_bytes_below, path.iterdir()))
