"""All figures of one checkpoint, each beside raw pixels, with their protocol."""

import json
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from clim_jax.evaluate.features import FeatureExtractor, raw_pixels
from clim_jax.evaluate.few_label import few_label_probe
from clim_jax.evaluate.knn import weighted_knn_accuracy
from clim_jax.evaluate.linear import linear_probe
from clim_jax.experiment import Experiment
from clim_jax.train.state import TrainState

_KNN_BLOCK = 4096


def evaluate(
  experiment: Experiment, state: TrainState, console: Console
) -> dict[str, Any] | None:
  """Probes the query encoder's features and raw pixels by the same protocols.

  Returns:
    The figures, ready for JSON; None if the data have no labels or no test images.
  """
  train, test = experiment.train, experiment.test
  if test is None or train.labels() is None or test.labels() is None:
    console.print("no evaluation: it needs labels and test images")
    return None
  config = experiment.config.evaluation
  crop = experiment.evaluation_crop
  raw_crop = crop._replace(side=min(crop.side, config.raw_pixel_side))
  features = {
    "network": [
      FeatureExtractor(experiment, source).array(state.query_params, state.query_stats)
      for source in (train, test)
    ],
    "raw_pixels": [
      raw_pixels(source, raw_crop, batch_size=config.batch_size)
      for source in (train, test)
    ],
  }
  figures: dict[str, Any] = {
    "step": int(state.step),
    "train_images": train.num_images,
    "test_images": test.num_images,
    "protocol": _protocol(experiment, raw_crop.side),
  }
  labels = train.labels(), test.labels()
  few_labels = _possible(config.few_labels, labels[0], console)
  for name, (train_features, test_features) in features.items():
    with console.status(f"evaluating {name}"):
      rows = (train_features, labels[0], test_features, labels[1])
      figures[name] = _probe(rows, config, few_labels)
  return figures


def _possible(
  few_labels: tuple[int, ...], labels: np.ndarray, console: Console
) -> list[int]:
  """Those label counts that every class can serve; says which are left out."""
  smallest = int(np.bincount(labels).min())
  left_out = [count for count in few_labels if count > smallest]
  if left_out:
    console.print(f"no probes with {left_out} labels a class: a class has {smallest}")
  return [count for count in few_labels if count <= smallest]


def _probe(
  rows: tuple[np.ndarray, ...], config: ConfigDict, few_labels: list[int]
) -> dict[str, Any]:
  """kNN, linear and few-label figures of one kind of features."""
  num_classes = int(max(rows[1].max(), rows[3].max())) + 1
  knn = weighted_knn_accuracy(
    *rows,
    num_classes=num_classes,
    neighbours=min(config.knn_neighbours, len(rows[0])),
    temperature=config.knn_temperature,
    block_size=_KNN_BLOCK,
  )
  linear = linear_probe(
    *rows,
    num_classes=num_classes,
    solver=config.probe_solver,
    regularisers=tuple(config.probe_regularisers),
    learning_rates=tuple(config.probe_learning_rates),
    epochs=config.probe_epochs,
    batch_size=config.probe_batch_size,
    max_iterations=config.probe_iterations,
    validation_fraction=config.probe_validation_fraction,
    seed=0,
  )
  few = {
    str(count): few_label_probe(
      *rows,
      num_classes=num_classes,
      labels_per_class=count,
      seeds=tuple(config.few_label_seeds),
      regulariser=config.few_label_regulariser,
      max_iterations=config.probe_iterations,
    )
    for count in few_labels
  }
  return {
    "knn": {"accuracy": knn},
    "linear": {
      "accuracy": linear.accuracy,
      "chosen": linear.chosen,
      "validation_accuracy": {
        str(setting): value for setting, value in linear.validation_accuracy.items()
      },
    },
    "few_labels": few,
  }


def _protocol(experiment: Experiment, raw_side: int) -> dict[str, Any]:
  """How the figures were made, to be read beside them."""
  config = experiment.config.evaluation
  solver = config.probe_solver
  tried = "regularisers" if solver == "lbfgs" else "learning_rates"
  return {
    "version": 1,
    "features": "query encoder, pooled backbone, evaluation mode, L2-normalised",
    "crop": experiment.evaluation_crop._asdict(),
    "raw_pixels": f"the same crop at side {raw_side}, L2-normalised",
    "knn": {
      "k": min(config.knn_neighbours, experiment.train.num_images),
      "temperature": config.knn_temperature,
    },
    "linear": {
      "solver": solver,
      f"{tried}_tried": list(config[f"probe_{tried}"]),
      "chosen_on": f"{config.probe_validation_fraction:.0%} of the training images",
      "then": "refit on all training images",
    },
    "few_labels": {
      "labels_per_class": list(config.few_labels),
      "seeds": list(config.few_label_seeds),
      "regulariser": config.few_label_regulariser,
      "std": "over seeds, n − 1",
    },
  }


def write(figures: dict[str, Any], workdir: epath.Path) -> None:
  """Writes evaluation.json; by the first process alone."""
  if jax.process_index() == 0:
    text = json.dumps(figures, indent=2, ensure_ascii=False)
    (workdir / "evaluation.json").write_text(text + "\n")


def print_table(figures: dict[str, Any], console: Console) -> None:
  """Top-1 accuracies on the terminal, the network beside raw pixels."""
  protocol = figures["protocol"]
  table = Table(
    title=f"Top-1 accuracy on {figures['test_images']} test images, "
    f"step {figures['step']}"
  )
  for column in ("protocol", "encoder", "raw pixels"):
    table.add_column(column, justify="left" if column == "protocol" else "right")
  network, raw = figures["network"], figures["raw_pixels"]
  knn = protocol["knn"]
  table.add_row(
    f"kNN (k={knn['k']}, τ={knn['temperature']})",
    *(f"{row['knn']['accuracy']:.2%}" for row in (network, raw)),
  )
  table.add_row(
    f"linear, all {figures['train_images']} labels",
    *(f"{row['linear']['accuracy']:.2%}" for row in (network, raw)),
  )
  for count, of_network in network["few_labels"].items():
    of_both = (of_network, raw["few_labels"][count])
    seeds = len(of_network["accuracies"])
    table.add_row(
      f"linear, {count} a class ({seeds} draws)",
      *(f"{row['mean']:.2%} ± {row['std']:.2%}" for row in of_both),
    )
  console.print(table)
