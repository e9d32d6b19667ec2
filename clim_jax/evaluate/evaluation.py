"""Every protocol asked for, on every set, side and encoder, references included."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from rich.console import Console
from rich.progress import track as rich_track

from clim_jax.data.batches import evaluation_batches
from clim_jax.data.crops import CenterCrop
from clim_jax.evaluate import crop_protocols, feature_protocols
from clim_jax.evaluate.datasets import LabelledSet
from clim_jax.evaluate.results import Result
from clim_jax.evaluate.task import Task
from clim_jax.experiment.experiment import evaluation_crop, init_variables
from clim_jax.probes import subjects
from clim_jax.probes.subjects import Subject

_RUN: dict[str, Callable[[Task], list[Result]]] = {
  "knn": feature_protocols.knn,
  "linear_cached": feature_protocols.linear_cached,
  "few_label": feature_protocols.few_label,
  "linear": crop_protocols.linear,
  "finetune": crop_protocols.finetune,
}


def evaluate(
  config: ConfigDict,
  mesh: Mesh,
  sets: list[LabelledSet],
  judged: list[Subject],
  names: dict[str, str],
  console: Console,
) -> Iterator[list[Result]]:
  """Puts encoders and references through the protocols of `config.evaluation`.

  Args:
    config: a whole config, that of the first encoder.
    mesh: devices.
    sets: on which they are judged.
    judged: trained encoders; the untrained one is like the first.
    names: of encoders before people, where they are others.
    console: shows how far it is.

  Yields:
    The figures of one encoder by one protocol, as soon as they are found.

  Raises:
    ConfigError: a set cannot serve a protocol.
  """
  for data in sets:
    _warn(config, data, console)
    for scale in config.evaluation.scales:
      crop = evaluation_crop(config)
      crop = crop._replace(side=round(scale * crop.side))
      references = _references(config, mesh, judged[0], data, crop)
      for subject in (*judged, *references):
        task = Task(
          mesh=mesh,
          subject=subject,
          data=data,
          crop=crop,
          flip_probability=config.augment.flip_probability,
          config=config.evaluation,
          track=_tracker(console),
        )
        console.print(
          f"evaluating {names.get(subject.name, subject.name)} on {data.name}, side "
          f"{task.side}",
          highlight=False,
          soft_wrap=True,
        )
        for protocol in config.evaluation.protocols:
          yield _RUN[protocol](task)


def _warn(config: ConfigDict, data: LabelledSet, console: Console) -> None:
  """Says which few-label figures there cannot be."""
  smallest = int(np.bincount(data.train_labels).min())
  counts = config.evaluation.few_label.counts
  left_out = [count for count in counts if count > smallest]
  if left_out and "few_label" in config.evaluation.protocols:
    console.print(f"no probes with {left_out} labels a class: a class has {smallest}")


def _references(
  config: ConfigDict, mesh: Mesh, like: Subject, data: LabelledSet, crop: CenterCrop
) -> Iterator[Subject]:
  """An untrained network and raw pixels, as the config asks for them."""
  evaluation = config.evaluation
  if "untrained" in evaluation.references:
    # Drawn: images of a folder are in the order of their classes.
    ids = np.random.default_rng(0).permutation(data.train.num_images)
    ids = np.resize(ids, (1, evaluation.batch_size))
    images = evaluation_batches(mesh, data.train, ids, crop)
    initial = init_variables(config, mesh)
    yield subjects.untrained(mesh, like.encoder, initial, images)
  if "raw_pixels" in evaluation.references:
    yield subjects.raw_pixels(evaluation.raw_pixel_side)


def _tracker(console: Console) -> Callable[[Iterable, str], Iterable]:
  """A progress bar for every loop, which vanishes when it ends."""

  def track(loop: Iterable, what: str) -> Iterable:
    return rich_track(
      loop, what, console=console, transient=True, disable=not console.is_terminal
    )

  return track
