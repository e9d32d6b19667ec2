"""From a config to the objects of a run: the one place that reads both."""

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from clim_jax import sharding
from clim_jax.data import batches
from clim_jax.data.array_crops import UncutBatch
from clim_jax.data.crops import CenterCrop, RandomCrop
from clim_jax.data.cuts import ViewPlan
from clim_jax.data.exclusion import Exclusion, read_exclusion
from clim_jax.data.index_stream import IndexStream
from clim_jax.data.source import Source
from clim_jax.data.sources import load_source
from clim_jax.experiment import limits
from clim_jax.experiment.configuration import ConfigError
from clim_jax.method import optim
from clim_jax.method.batch import Batch
from clim_jax.method.mixture import MIXTURES
from clim_jax.method.objective import Recipe
from clim_jax.method.state import TrainState, init_state, initial_variables
from clim_jax.method.step import make_replica_step, make_train_step
from clim_jax.models.encoder import Encoder
from clim_jax.models.operations import operations_for
from clim_jax.models.resnet import feature_dim
from clim_jax.selection.positives import Positives
from clim_jax.selection.refresh import Selection


@dataclass(frozen=True)
class Experiment:
  """A checked config with its devices and data."""

  config: ConfigDict
  mesh: Mesh
  train: Source
  test: Source | None

  @property
  def stream(self) -> IndexStream:
    return IndexStream(
      seed=self.config.seed,
      num_images=self.train.num_images,
      batch_size=self.config.batch_size,
      num_crops=self.view_plan.num_crops,
    )

  @property
  def total_steps(self) -> int:
    return self.config.epochs * self.stream.steps_per_epoch

  def selects_at(self, epoch: int) -> bool:
    """Whether positives are selected before this epoch, counted from 0."""
    config = self.config.selection
    since_warmup = epoch - config.warmup_epochs
    due = since_warmup >= 0 and since_warmup % config.refresh_epochs == 0
    return config.rule != "none" and due

  @property
  def view_plan(self) -> ViewPlan:
    views = self.config.views
    crops = tuple(
      RandomCrop(side, (low, high), tuple(views.aspect_ratio))
      for side, low, high in zip(
        views.sides, views.min_scales, views.max_scales, strict=True
      )
    )
    # The symmetric loss needs the positive also in the order of the queries.
    mixes = self.config.mixture.kind in MIXTURES
    return ViewPlan(crops, mixes or self.config.moco.symmetric)

  @property
  def feature_dim(self) -> int:
    return feature_dim(self.config.model.backbone, self.config.model.width)

  @property
  def encoder(self) -> Encoder:
    """With the batch-normalisation groups of one part of one replica's rows."""
    parts = self.mesh.devices.size * self.config.optimizer.accumulate_steps
    groups = self.config.model.batch_norm_groups // parts
    return make_encoder(self.config, self.mesh, groups=groups)

  @property
  def learning_rate(self) -> optax.Schedule:
    config = self.config.optimizer
    warmup_steps = round(config.warmup_epochs * self.stream.steps_per_epoch)
    return optim.learning_rate_schedule(
      peak=config.learning_rate * self.config.batch_size / 256,
      warmup_steps=warmup_steps,
      total_steps=self.total_steps,
    )

  @property
  def key_momentum(self) -> optax.Schedule:
    """Of the key encoder's moving average."""
    return optim.momentum_schedule(
      self.config.moco.momentum_schedule,
      momentum=self.config.moco.momentum,
      total_steps=self.total_steps,
    )

  @property
  def optimizer(self) -> optax.GradientTransformation:
    config = self.config.optimizer
    return optim.make_optimizer(
      config.name,
      self.learning_rate,
      momentum=config.momentum,
      b1=config.b1,
      b2=config.b2,
      weight_decay=config.weight_decay,
      decay_all=config.decay_all,
    )

  @property
  def selection(self) -> Selection:
    config = self.config.selection
    return Selection(
      rule=config.rule,
      num_neighbours=config.num_neighbours,
      num_centers=config.num_centers,
      kmeans_iterations=config.kmeans_iterations,
      probes=config.probes,
      seed=self.config.seed,
      scoring=config.scoring,
    )

  def init_state(self) -> TrainState:
    """The first state, on every device; one program instead of one an operation."""
    init = functools.partial(
      init_state,
      self.config.seed,
      self.encoder,
      self.optimizer,
      side=self.config.views.sides[0],
      queue_size=self.config.moco.queue_size,
    )
    return jax.jit(init, out_shardings=sharding.replicated(self.mesh))()

  def train_step(self) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """The mapped, compiled step: (state, batch) → (state, metrics)."""
    config = self.config
    recipe = Recipe(
      temperature=config.moco.temperature,
      policy=limits.augment_policy(config).for_platform(
        self.mesh.devices.flat[0].platform
      ),
      mixture=config.mixture.kind,
      alpha=config.mixture.alpha,
      mixed_weight=config.mixture.weight,
      symmetric=config.moco.symmetric,
      accumulate_steps=config.optimizer.accumulate_steps,
      recompute=config.model.recompute,
    )
    step = make_replica_step(
      self.encoder, self.optimizer, self.key_momentum, recipe, config.seed
    )
    return make_train_step(
      self.mesh,
      lambda state, batch: step(state, batches.as_cut(batch)),
      batches.spec_of(self.train, self.mesh),
    )

  def batches(
    self, first_step: int, last_step: int, positives: Positives | None
  ) -> Iterator[Batch | UncutBatch]:
    """What the steps first_step … last_step − 1 are given."""
    return batches.train_batches(
      self.mesh,
      self.train,
      self.stream,
      self.view_plan,
      first_step=first_step,
      last_step=last_step,
      positives=positives,
    )


def open_experiment(config: ConfigDict, mesh: Mesh | None = None) -> Experiment:
  """Checks the config and opens the data, for a mesh or for all devices there are.

  Raises:
    ConfigError: a value that cannot work with these devices or data.
  """
  mesh = sharding.make_mesh() if mesh is None else mesh
  limits.check_config(config, devices=mesh.devices.size)
  config = limits.with_groups(config, devices=mesh.devices.size)
  train, test = open_data(config)
  limits.check_against_data(config, train.num_images)
  return Experiment(config, mesh, train, test)


def open_data(config: ConfigDict) -> tuple[Source, Source | None]:
  """The training and the test images of a config.

  Raises:
    ConfigError: they cannot be opened.
  """
  data = config.data
  try:
    return load_source(
      data.source,
      exclude=exclusion_of(data),
      path=data.path,
      test_path=data.test_path,
      tfds_name=data.tfds_name,
      train_split=data.train_split,
      test_split=data.test_split,
      test_fraction=data.test_fraction,
      test_labels=data.test_labels,
      labels=data.labels,
      on_bad_image=data.on_bad_image,
      white_level=data.white_level,
      max_pixels=data.max_pixels,
      crops=data.crops,
    )
  except (ValueError, OSError) as error:
    raise ConfigError(f"data.path={data.path} cannot be opened: {error}") from error


def exclusion_of(data: ConfigDict, folder: str = "") -> Exclusion | None:
  """The images that the section `data` leaves out.

  Args:
    data: the section; the names of its list begin at `data.path`.
    folder: that is opened in place of the set; where it is no part of it, the names
      begin there.

  Raises:
    ValueError, OSError: the list cannot be read.
  """
  if not data.exclude:
    return None
  root = data.path if data.source == "folder" else ""
  if folder:
    whole, part = (os.path.join(os.path.abspath(path), "") for path in (root, folder))
    root = root if root and part.startswith(whole) else folder
  return read_exclusion(data.exclude, root)


def evaluation_crop(config: ConfigDict) -> CenterCrop:
  return CenterCrop(config.views.evaluation_side, config.views.evaluation_fraction)


def make_encoder(config: ConfigDict, mesh: Mesh, *, groups: int) -> Encoder:
  """The encoder of a config, for the devices of a mesh.

  Here alone it is decided by what operations and in which dtype they compute.

  Args:
    config: of a run.
    mesh: whose devices it is for.
    groups: of batch normalisation, of the rows of one call.
  """
  platform = mesh.devices.flat[0].platform
  model, data = config.model, config.data
  return Encoder(
    backbone=model.backbone,
    stem=model.stem,
    width=model.width,
    hidden_dim=model.hidden_dim,
    embedding_dim=model.embedding_dim,
    groups=groups,
    pixel_mean=tuple(data.pixel_mean),
    pixel_std=tuple(data.pixel_std),
    operations=operations_for(platform),
    dtype=_compute_dtype(model.dtype, platform),
  )


def init_variables(config: ConfigDict, mesh: Mesh) -> dict[str, Any]:
  """Parameters and running statistics before the first step, on every device."""
  init = functools.partial(
    initial_variables,
    config.seed,
    make_encoder(config, mesh, groups=1),
    side=config.views.sides[0],
  )
  return jax.jit(init, out_shardings=sharding.replicated(mesh))()


def train_labels(experiment: Experiment) -> np.ndarray | None:
  """Labels for the selection's figures, if they are wanted and at hand."""
  if not experiment.config.selection.label_figures:
    return None
  labels = experiment.train.labels()
  return None if labels is None or (labels < 0).all() else labels


def _compute_dtype(name: str, platform: str) -> Any:
  if name == "auto":
    name = "float32" if platform == "cpu" else "bfloat16"
  return jnp.dtype(name)
