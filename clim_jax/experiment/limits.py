"""What a config must satisfy, checked before anything is built."""

from collections.abc import Callable

from ml_collections import ConfigDict

from clim_jax.augment.policy import Policy
from clim_jax.experiment.configuration import ConfigError
from clim_jax.experiment.evaluation_limits import check_evaluation
from clim_jax.method.mixture import MIXTURES
from clim_jax.method.optim import OPTIMIZERS
from clim_jax.models.resnet import ARCHITECTURES, STEMS
from clim_jax.selection.positives import RULES
from clim_jax.selection.search.scoring import SCORINGS


def check_config(config: ConfigDict, *, devices: int) -> None:
  """Raises ConfigError for values that cannot work on this many devices."""
  _check_choices(config)
  _check_views(config)
  augment_policy(config)
  _check_batch(config, devices)
  _check_ranges(config)
  _check_selection(config)
  check_evaluation(config, devices=devices)


def check_against_data(config: ConfigDict, num_images: int) -> None:
  """Raises ConfigError for values that the number of training images rules out."""
  if config.batch_size > num_images:
    raise ConfigError(
      f"batch_size {config.batch_size} exceeds the {num_images} training images; "
      "lower it or bring more images"
    )
  conditions = RULES[config.selection.rule]
  if "b" in conditions and config.selection.num_centers > num_images:
    raise ConfigError(
      f"selection.num_centers {config.selection.num_centers} exceeds the "
      f"{num_images} training images; lower it"
    )
  if "a" in conditions and config.selection.num_neighbours >= num_images:
    raise ConfigError(
      f"selection.num_neighbours {config.selection.num_neighbours} needs more than "
      f"the {num_images} training images; at most {num_images - 1} can be had"
    )


def with_groups(config: ConfigDict, *, devices: int) -> ConfigDict:
  """The config with `model.batch_norm_groups` as a number, where it says 0.

  Eight for any number of devices up to eight, so that all of them compute the same.
  """
  if config.model.batch_norm_groups:
    return config
  config = config.copy_and_resolve_references()
  config.model.batch_norm_groups = max(8, devices * config.optimizer.accumulate_steps)
  return config


def augment_policy(config: ConfigDict) -> Policy:
  """Of the section `augment`; raises ConfigError for a value out of its range."""
  values = config.augment.to_dict()
  values["blur_sigma"] = tuple(values["blur_sigma"])
  try:
    return Policy(**values)
  except ValueError as error:
    raise ConfigError(f"augment.{error}") from error


def _check_choices(config: ConfigDict) -> None:
  choices = {
    "data.source": ("digits", "npz", "folder", "tfds"),
    "model.backbone": tuple(ARCHITECTURES),
    "model.stem": STEMS,
    "model.dtype": ("auto", "float32", "bfloat16"),
    "data.on_bad_image": ("raise", "skip"),
    "moco.momentum_schedule": ("constant", "cosine"),
    "selection.rule": tuple(RULES),
    "selection.scoring": SCORINGS,
    "mixture.kind": (*MIXTURES, "direct"),
    "optimizer.name": OPTIMIZERS,
  }
  for key, allowed in choices.items():
    section, name = key.split(".")
    value = config[section][name]
    if value not in allowed:
      raise ConfigError(f"{key} {value!r} must be one of {', '.join(allowed)}")


def _check_views(config: ConfigDict) -> None:
  views = config.views
  counts = {len(views.sides), len(views.min_scales), len(views.max_scales)}
  if len(counts) != 1 or not views.sides:
    raise ConfigError(
      f"views.sides {views.sides}, min_scales {views.min_scales} and max_scales "
      f"{views.max_scales} must have equally many values, at least one"
    )
  if list(views.sides) != sorted(views.sides, reverse=True):
    raise ConfigError(f"views.sides {views.sides} must fall: the key has the first")
  for low, high in zip(views.min_scales, views.max_scales, strict=True):
    if not 0 < low <= high <= 1:
      raise ConfigError(f"crop scale {low}–{high} must satisfy 0 < min ≤ max ≤ 1")


def _check_batch(config: ConfigDict, devices: int) -> None:
  parts = config.optimizer.accumulate_steps
  if parts < 1:
    raise ConfigError(f"optimizer.accumulate_steps {parts} must be at least 1")
  groups = with_groups(config, devices=devices).model.batch_norm_groups
  if config.batch_size < 1 or config.batch_size % (devices * parts):
    raise ConfigError(
      f"batch_size {config.batch_size} must divide by {devices} devices × {parts} "
      "accumulate_steps"
    )
  if groups < 1 or groups % (devices * parts):
    raise ConfigError(
      f"model.batch_norm_groups {groups} must be a multiple of {devices} devices × "
      f"{parts} accumulate_steps; set it to {devices * parts} or a multiple"
    )
  if config.batch_size % groups or config.batch_size // groups < 2:
    raise ConfigError(
      f"batch_size {config.batch_size} must give each of {groups} batch_norm_groups "
      "equally many images, at least 2; raise it or use fewer devices or groups"
    )
  keys = config.batch_size * (2 if config.moco.symmetric else 1)
  if config.moco.queue_size < keys:
    raise ConfigError(
      f"moco.queue_size {config.moco.queue_size} must hold the {keys} keys of a step"
    )


def _check_selection(config: ConfigDict) -> None:
  selection = config.selection
  if selection.probes and selection.rule in ("knn", "none"):
    raise ConfigError(
      f"selection.probes {selection.probes} needs clusters, which rule "
      f"{selection.rule!r} does not make; set it to 0"
    )


def _check_ranges(config: ConfigDict) -> None:
  def positive(value: float) -> bool:
    return value > 0

  def not_negative(value: float) -> bool:
    return value >= 0

  def share(value: float) -> bool:
    return 0 <= value <= 1

  ranges: dict[str, tuple[Callable[[float], bool], str]] = {
    "epochs": (positive, "> 0"),
    "moco.temperature": (positive, "> 0"),
    "moco.momentum": (share, "in [0, 1]"),
    "mixture.alpha": (positive, "> 0"),
    "mixture.weight": (share, "in [0, 1]"),
    "selection.num_neighbours": (positive, "> 0"),
    "selection.num_centers": (positive, "> 0"),
    "selection.refresh_epochs": (positive, "> 0"),
    "selection.probes": (not_negative, "≥ 0"),
    "log.every_steps": (positive, "> 0"),
    "online.every_epochs": (not_negative, "≥ 0"),
    "online.train_images": (positive, "> 0"),
    "online.test_images": (positive, "> 0"),
    "online.neighbours": (positive, "> 0"),
    "checkpoint.every_epochs": (positive, "> 0"),
    "data.test_fraction": (lambda value: 0 <= value < 1, "in [0, 1)"),
    "views.evaluation_fraction": (lambda value: 0 < value <= 1, "in (0, 1]"),
  }
  for key, (holds, limit) in ranges.items():
    value = config
    for part in key.split("."):
      value = value[part]
    if not holds(value):
      raise ConfigError(f"{key} {value} must be {limit}")
