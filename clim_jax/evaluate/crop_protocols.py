"""Protocols that train on augmented images: MoCo's linear probe, fine-tuning."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from clim_jax.data.crops import RandomCrop
from clim_jax.data.labelled import (
  LabelledBatch,
  LabelledStream,
  batch_size_for,
  labelled_batches,
)
from clim_jax.evaluate.results import Result
from clim_jax.evaluate.task import Task, over_seeds
from clim_jax.experiment.configuration import ConfigError
from clim_jax.probes.finetune import finetune as train_network
from clim_jax.probes.heads import head_accuracies
from clim_jax.probes.label_subsets import fraction_subset, listed_subset
from clim_jax.probes.linear_sgd import train_heads
from clim_jax.probes.subjects import Subject

_ASPECT_RATIO = (3 / 4, 4 / 3)  # width / height


def linear(task: Task) -> list[Result]:
  """MoCo's linear probe, all rates and decays in one pass over the images.

  The heads are fit on the images that do not judge them, and not again on all: one
  pass is what such a probe costs.
  """
  config, data = task.config.linear, task.data
  fitted, judged = task.split
  grid = [(rate, wd) for rate in config.learning_rates for wd in config.weight_decays]
  fitted = fitted if len(grid) > 1 else np.arange(data.train.num_images)
  stream = _stream(task, fitted, config.batch_size, task.config.seed)
  steps = config.epochs * stream.steps_per_epoch
  layer = task.config.layer
  test = task.embed(task.subject, data.test, data.test_labels, layer)
  heads = train_heads(
    task.mesh,
    task.subject,
    _batches(task, stream, steps, f"linear probe of {task.subject.name}"),
    settings=grid,
    layer=layer,
    dim=test.features.shape[1],
    num_classes=data.num_classes,
    total_steps=steps,
  )
  top1 = head_accuracies(heads, *test)
  settings = [
    {"learning_rate": rate, "weight_decay": wd, "top1": value}
    for (rate, wd), value in zip(grid, top1, strict=True)
  ]
  if len(grid) > 1:
    rows = task.embed(
      task.subject, data.train.subset(judged), data.train_labels[judged], layer
    )
    for setting, value in zip(settings, head_accuracies(heads, *rows), strict=True):
      setting["validation_top1"] = value
  stamp = _training_stamp(task, config, stream) | {
    "rate": "×0.1 at 60% and 80% of the steps",
    "fit_on": f"{len(fitted)} of the training images",
    "backbone": "frozen, running statistics",
  }
  return [task.result("linear", "all", settings, stamp)]


def finetune(task: Task) -> list[Result]:
  """Fine-tuning on shares of the labels, over seeds; a setting is a pair of rates."""
  config = task.config.finetune
  lists = tuple(config.label_lists)
  if lists and len(lists) != len(config.fractions):
    raise ConfigError(
      f"evaluation.finetune.label_lists has {len(lists)} files for the "
      f"{len(config.fractions)} fractions {tuple(config.fractions)}: give one for each"
    )
  return [
    _finetune_share(task, fraction, lists[place] if lists else "")
    for place, fraction in enumerate(config.fractions)
  ]


def _finetune_share(task: Task, fraction: float, label_list: str) -> Result:
  """Every pair of rates on a share of the labels; judged on images outside it."""
  config, judges = task.config.finetune, len(task.config.finetune.settings) > 1
  shares = {s: _share(task, fraction, label_list, s) for s in config.seeds}
  settings = []
  for rates in config.settings:
    runs = [_finetune_once(task, ids, rates, seed) for seed, ids in shares.items()]
    top1 = [_accuracy(task, tuned) for tuned in runs]
    setting = {"learning_rate": rates[0], "head_learning_rate": rates[1]}
    setting |= over_seeds(top1)
    if judges:
      setting["validation_top1"] = _judgement(task, shares, rates, runs)
    settings.append(setting)
  sizes = sorted({len(ids) for ids in shares.values()})
  stream = _stream(task, shares[config.seeds[0]], config.batch_size, 0)
  stamp = _training_stamp(task, config, stream) | {
    "rates": "both ×0.2 at 60% and 80% of the steps",
    "labels_used": sizes[0] if len(sizes) == 1 else sizes,
    "share": label_list or ("all" if fraction >= 1 else "class-balanced draw a seed"),
    "seeds": list(config.seeds),
    "batch_norm": "statistics of the whole batch",
  }
  if task.is_network:
    stamp["features"] = "features"  # whatever layer the other protocols look at
  labels = "all" if fraction >= 1 else f"{100 * fraction:g}%"
  return task.result("finetune", labels, settings, stamp)


class _Tuned(NamedTuple):
  network: Subject
  head: np.ndarray  # [F + 1, C] float32


def _judgement(
  task: Task,
  shares: dict[int, np.ndarray],
  rates: tuple[float, float],
  runs: list[_Tuned],
) -> float:
  """Mean accuracy on held-out training images, none of which the runs were tuned on.

  Where a share leaves none of those held out, the network is tuned anew without them.
  """
  fitted, judged = task.split
  values = []
  for (seed, ids), tuned in zip(shares.items(), runs, strict=True):
    outside = np.setdiff1d(judged, ids)
    if not len(outside):
      outside = judged
      tuned = _finetune_once(task, np.intersect1d(ids, fitted), rates, seed)
    values.append(_accuracy(task, tuned, outside))
  return float(np.mean(values))


def _finetune_once(
  task: Task, ids: np.ndarray, rates: tuple[float, float], seed: int
) -> _Tuned:
  config = task.config.finetune
  stream = _stream(task, ids, config.batch_size, seed)
  steps = config.epochs * stream.steps_per_epoch
  tuned = train_network(
    task.mesh,
    task.subject,
    _batches(task, stream, steps, f"fine-tuning {task.subject.name}, seed {seed}"),
    learning_rate=rates[0],
    head_learning_rate=rates[1],
    dim=task.feature_dim,
    num_classes=task.data.num_classes,
    total_steps=steps,
  )
  return _Tuned(*tuned)


def _accuracy(task: Task, tuned: _Tuned, on: np.ndarray | None = None) -> float:
  """On the training images of some ids, or on the test images."""
  data = task.data
  source, labels = data.test, data.test_labels
  if on is not None:
    source, labels = data.train.subset(on), data.train_labels[on]
  rows = task.embed(tuned.network, source, labels, "features")
  return head_accuracies(tuned.head[None], *rows)[0]


def _share(task: Task, fraction: float, label_list: str, seed: int) -> np.ndarray:
  """Ids of the training images whose labels are used."""
  data = task.data
  try:
    if label_list:
      listed = epath.Path(label_list).read_text().splitlines()
      return listed_subset(listed, data.train.num_images, data.train.name)
    return fraction_subset(
      data.train_labels, num_classes=data.num_classes, fraction=fraction, seed=seed
    )
  except (ValueError, OSError) as error:
    raise ConfigError(
      f"evaluation.finetune, {100 * fraction:g}% of the labels: {error}"
    ) from error


def _stream(task: Task, ids: np.ndarray, asked: int, seed: int) -> LabelledStream:
  size = batch_size_for(len(ids), asked, task.mesh.devices.size)
  return LabelledStream(ids, size, seed)


def _batches(
  task: Task, stream: LabelledStream, steps: int, what: str
) -> Iterator[LabelledBatch]:
  crop = RandomCrop(task.side, tuple(task.config.crop_scale), _ASPECT_RATIO)
  batches = labelled_batches(
    task.mesh,
    task.data.train,
    task.data.train_labels,
    stream,
    crop,
    steps=steps,
    flip_probability=task.flip_probability,
  )
  numbers = task.track(range(steps), what)
  return (batch for _, batch in zip(numbers, batches, strict=True))


def _training_stamp(task: Task, config: Any, stream: LabelledStream) -> dict[str, Any]:
  low, high = task.config.crop_scale
  return {
    "optimizer": "SGD, momentum 0.9",
    "epochs": config.epochs,
    "steps": config.epochs * stream.steps_per_epoch,
    "batch_size": stream.batch_size,
    "augmentation": f"random resized crop {low:g}–{high:g}, "
    f"flip with probability {task.flip_probability:g}",
  }
