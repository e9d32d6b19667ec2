"""Protocols on features computed once: kNN, logistic regression, few labels."""

import numpy as np

from clim_jax.evaluate.results import Result
from clim_jax.evaluate.task import Rows, Task, over_seeds
from clim_jax.probes.few_label import few_label_probe
from clim_jax.probes.knn import knn_accuracies
from clim_jax.probes.linear import linear_probe

NORMALISED = {"normalised": "L2"}


def knn(task: Task) -> list[Result]:
  """Weighted kNN over a grid of k and temperature."""
  config = task.config.knn
  train, test = task.rows
  fitted, judged = task.split
  sizes = sorted({min(k, len(fitted)) for k in config.neighbours})
  grid = [(k, tau) for k in sizes for tau in config.temperatures]

  def accuracies(gallery: Rows, queries: Rows) -> list[float]:
    return knn_accuracies(
      task.mesh,
      *gallery,
      *queries,
      num_classes=task.data.num_classes,
      settings=grid,
    )

  settings = [
    {"k": k, "temperature": tau, "top1": value}
    for (k, tau), value in zip(grid, accuracies(train, test), strict=True)
  ]
  if len(grid) > 1:
    parts = (Rows(*(x[ids] for x in train)) for ids in (fitted, judged))
    for setting, value in zip(settings, accuracies(*parts), strict=True):
      setting["validation_top1"] = value
  stamp = NORMALISED | {"vote": "exp(cosine / temperature)", "gallery": "all training"}
  return [task.result("knn", "all", settings, stamp)]


def linear_cached(task: Task) -> list[Result]:
  """Logistic regression on center crops, its penalty chosen."""
  config, (train, test) = task.config.linear_cached, task.rows
  # Strongest first: of equally good ones the first is chosen.
  regularisers = sorted({float(value) for value in config.regularisers}, reverse=True)
  accuracies = linear_probe(
    task.mesh,
    *train,
    *test,
    num_classes=task.data.num_classes,
    regularisers=regularisers,
    max_iterations=config.iterations,
    split=task.split,
  )
  settings = [
    {"regulariser": value, "top1": top1, "validation_top1": validation}
    for value, validation, top1 in zip(regularisers, *accuracies, strict=True)
  ]
  stamp = NORMALISED | {
    "solver": f"L-BFGS, at most {config.iterations} steps",
    "augmentation": "none: center crops",
    "fit_on": "all training images",
  }
  return [task.result("linear_cached", "all", settings, stamp)]


def few_label(task: Task) -> list[Result]:
  """Logistic regression on a few labels a class, over draws."""
  config, (train, test) = task.config.few_label, task.rows
  smallest = int(np.bincount(train.labels).min())
  results = []
  for count in (count for count in config.counts if count <= smallest):
    top1 = few_label_probe(
      *train,
      *test,
      num_classes=task.data.num_classes,
      labels_per_class=count,
      seeds=tuple(config.seeds),
      regulariser=config.regulariser,
      max_iterations=config.iterations,
    )
    setting = {"regulariser": config.regulariser} | over_seeds(top1)
    stamp = NORMALISED | {
      "solver": "L-BFGS",
      "draw": "class-balanced",
      "seeds": list(config.seeds),
    }
    results.append(task.result("few_label", f"{count} a class", [setting], stamp))
  return results
