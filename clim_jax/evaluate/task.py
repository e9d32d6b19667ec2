"""One encoder on one labelled set at one side: what every protocol is given."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from clim_jax.data.crops import CenterCrop
from clim_jax.data.source import Source, with_stand_ins
from clim_jax.data.split import split_rows
from clim_jax.evaluate.datasets import LabelledSet
from clim_jax.evaluate.features import extract, normalise
from clim_jax.evaluate.results import Result
from clim_jax.models.resnet import feature_dim
from clim_jax.probes.subjects import RawPixels, Subject

Track = Callable[[Iterable, str], Iterable]  # shows how far a loop is


class Rows(NamedTuple):
  features: np.ndarray  # [N, F] float32
  labels: np.ndarray  # [N] int32


@dataclass(frozen=True)
class Task:
  mesh: Mesh
  subject: Subject
  data: LabelledSet
  crop: CenterCrop
  flip_probability: float  # of the run's own augmentation
  config: ConfigDict  # the section `evaluation`
  track: Track

  @functools.cached_property
  def rows(self) -> tuple[Rows, Rows]:
    """Unit-norm features and labels of the training and of the test images."""
    data, layer = self.data, self.config.layer
    train = self.embed(self.subject, data.train, data.train_labels, layer)
    test = self.embed(self.subject, data.test, data.test_labels, layer)
    return (
      train._replace(features=normalise(train.features)),
      test._replace(features=normalise(test.features)),
    )

  def embed(
    self, subject: Subject, source: Source, labels: np.ndarray, layer: str
  ) -> Rows:
    """Features as the layer gives them, of the evaluation crops."""
    features = extract(
      self.mesh,
      subject,
      source,
      self.crop,
      batch_size=self.config.batch_size,
      layers=(layer,),
      track=lambda batches: self.track(batches, f"features of {subject.name}"),
    )
    # An image seen in place of one that cannot be decoded has its own label.
    return Rows(features, labels[with_stand_ins(source, np.arange(len(labels)))])

  @functools.cached_property
  def split(self) -> tuple[np.ndarray, np.ndarray]:
    """Training images to fit a setting on, and those to judge it on."""
    return split_rows(
      self.data.train_labels,
      held_out=self.config.validation_fraction,
      seed=self.config.seed,
    )

  @property
  def side(self) -> int:
    """Of the images that the encoder is shown."""
    return self.subject.side(self.crop.side)

  @property
  def is_network(self) -> bool:
    return not isinstance(self.subject.encoder, RawPixels)

  @property
  def feature_dim(self) -> int:
    """F, of the backbone's features."""
    encoder = self.subject.encoder
    if isinstance(encoder, RawPixels):
      return self.side**2 * 3
    return feature_dim(encoder.backbone, encoder.width)

  def result(
    self,
    protocol: str,
    labels: str,
    settings: list[dict[str, Any]],
    stamp: dict[str, Any],
  ) -> Result:
    """Each setting has what was tried and its figures; the headline is one of them.

    It is the first with the highest validation accuracy, or the first if none was
    judged.
    """
    best = max(settings, key=lambda setting: setting.get("validation_top1", 0.0))
    figures = ("top1", "validation_top1", "std", "top1_by_seed")
    return Result(
      dataset=self.data.name,
      protocol=protocol,
      labels=labels,
      side=self.crop.side,
      encoder=self.subject.name,
      top1=best["top1"],
      std=best.get("std"),
      top1_by_seed=best.get("top1_by_seed"),
      chosen={key: value for key, value in best.items() if key not in figures},
      settings=settings,
      stamp=self._stamp(len(settings)) | stamp,
    )

  def _stamp(self, num_settings: int) -> dict[str, Any]:
    """What holds for every protocol."""
    encoder, data = self.subject.encoder, self.data
    held_out = f"{self.config.validation_fraction:.0%} of the training images"
    network = {"features": "pixels in [0, 1]"}
    if self.is_network:
      network = {
        "features": self.config.layer,
        "network": f"{encoder.backbone}, stem {encoder.stem}, width {encoder.width}",
        "dtype": np.dtype(encoder.dtype).name,
      }
    return network | {
      "shown_side": self.side,
      "crop": f"central {self.crop.fraction:g} of the shorter side",
      "classes": data.num_classes,
      "train_images": data.train.num_images,
      "test_images": data.test.num_images,
      "test_part": data.test_part,
      "bad_images": len(data.train.stand_ins) + len(data.test.stand_ins),
      "chosen_on": held_out if num_settings > 1 else "nothing: one setting",
      "split_seed": self.config.seed,
    }


def over_seeds(top1: list[float]) -> dict[str, Any]:
  """Mean and sample deviation of accuracies, one a seed; a single one has no spread."""
  return {
    "top1": float(np.mean(top1)),
    "std": float(np.std(top1, ddof=1)) if len(top1) > 1 else None,
    "top1_by_seed": top1,
  }
