"""What a config must satisfy, checked before anything is built."""

from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from clim_jax.augment.policy import Policy
from clim_jax.data.size import MOST_PIXELS
from clim_jax.experiment.configuration import ConfigError
from clim_jax.method.mixture import MIXTURES
from clim_jax.method.optim import OPTIMIZERS
from clim_jax.models.encoder import LAYERS
from clim_jax.models.resnet import ARCHITECTURES, STEMS
from clim_jax.probes.subjects import REFERENCES
from clim_jax.selection.positives import RULES
from clim_jax.selection.search.scoring import SCORINGS

PROTOCOLS = ("knn", "linear_cached", "few_label", "linear", "finetune")
DESTINATIONS = ("tensorboard", "wandb", "mlflow", "trackio")
ONLINE_FIGURES = ("online/knn_top1", "online/linear_top1")
_ARRAYS = ("digits", "npz")  # sources that lie in memory
_POSITIVE = (lambda value: value > 0), "> 0"
_NOT_NEGATIVE = (lambda value: value >= 0), "≥ 0"
_SHARE = (lambda value: 0 <= value <= 1), "in [0, 1]"
_SOME = (lambda value: 0 < value <= 1), "in (0, 1]"
_BELOW_ONE = (lambda value: 0 <= value < 1), "in [0, 1)"

# What each value must be, and each of a tuple of values.
_CHOICES = {
  "data.source": ("digits", "npz", "folder", "tfds"),
  "data.labels": ("auto", "none"),
  "data.crops": ("auto", "device", "host"),
  "data.on_bad_image": ("raise", "skip"),
  "model.backbone": tuple(ARCHITECTURES),
  "model.stem": STEMS,
  "model.dtype": ("auto", "float32", "bfloat16"),
  "moco.momentum_schedule": ("constant", "cosine"),
  "selection.rule": tuple(RULES),
  "selection.scoring": SCORINGS,
  "mixture.kind": (*MIXTURES, "direct"),
  "optimizer.name": OPTIMIZERS,
  "checkpoint.best": ("", *ONLINE_FIGURES),
  "log.destinations": DESTINATIONS,
}
_RANGES = {
  "seed": _NOT_NEGATIVE,
  "epochs": _POSITIVE,
  "views.sides": _POSITIVE,
  "augment.solarize_threshold": _SHARE,
  "model.width": _POSITIVE,
  "model.hidden_dim": _POSITIVE,
  "model.embedding_dim": _POSITIVE,
  "moco.temperature": _POSITIVE,
  "moco.momentum": _SHARE,
  "mixture.alpha": _POSITIVE,
  "mixture.weight": _SHARE,
  "selection.num_neighbours": _POSITIVE,
  "selection.num_centers": _POSITIVE,
  "selection.kmeans_iterations": _POSITIVE,
  "selection.warmup_epochs": _NOT_NEGATIVE,
  "selection.refresh_epochs": _POSITIVE,
  "selection.probes": _NOT_NEGATIVE,
  "optimizer.learning_rate": _NOT_NEGATIVE,
  "optimizer.warmup_epochs": _NOT_NEGATIVE,
  "optimizer.momentum": _BELOW_ONE,
  "optimizer.b1": _BELOW_ONE,
  "optimizer.b2": _BELOW_ONE,
  "optimizer.weight_decay": _NOT_NEGATIVE,
  "log.every_steps": _POSITIVE,
  "online.every_epochs": _NOT_NEGATIVE,
  "online.train_images": _POSITIVE,
  "online.test_images": _POSITIVE,
  "online.neighbours": _POSITIVE,
  "online.temperature": _POSITIVE,
  "online.regulariser": _NOT_NEGATIVE,
  "online.iterations": _POSITIVE,
  "checkpoint.every_epochs": _POSITIVE,
  "data.white_level": _NOT_NEGATIVE,
  "data.max_pixels": (
    (lambda value: 1 <= value <= MOST_PIXELS),
    f"in [1, {MOST_PIXELS}], which is Pillow's own bound",
  ),
  "checkpoint.every_minutes": (
    (lambda value: value >= 0),
    "≥ 0; 0 saves by epochs alone",
  ),
  "checkpoint.keep": (
    (lambda value: value >= 1),
    "≥ 1; a large number, such as 1000000, keeps all",
  ),
  "data.test_fraction": _BELOW_ONE,
  "views.evaluation_fraction": _SOME,
}
_EVALUATION_CHOICES = {
  "evaluation.protocols": PROTOCOLS,
  "evaluation.references": REFERENCES,
  "evaluation.layer": LAYERS,
  "evaluation.encoder": ("query", "key"),
}
_REPORT_RANGES = {
  "report.images": ((lambda value: 2 <= value <= 20_000), "in [2, 20000]"),
}
_EVALUATION_RANGES = {
  "views.evaluation_side": _POSITIVE,
  "evaluation.seed": _NOT_NEGATIVE,
  "evaluation.step": ((lambda value: value >= -1), "≥ 0, or -1 for the newest"),
  "evaluation.validation_fraction": ((lambda value: 0 < value < 1), "in (0, 1)"),
  "evaluation.raw_pixel_side": _POSITIVE,
  "evaluation.knn.neighbours": _POSITIVE,
  "evaluation.knn.temperatures": _POSITIVE,
  "evaluation.linear_cached.regularisers": _NOT_NEGATIVE,
  "evaluation.linear_cached.iterations": _POSITIVE,
  "evaluation.few_label.counts": _POSITIVE,
  "evaluation.few_label.seeds": _NOT_NEGATIVE,
  "evaluation.few_label.iterations": _POSITIVE,
  "evaluation.few_label.regulariser": _NOT_NEGATIVE,
  "evaluation.linear.batch_size": _POSITIVE,
  "evaluation.linear.epochs": _POSITIVE,
  "evaluation.linear.learning_rates": _POSITIVE,
  "evaluation.linear.weight_decays": _NOT_NEGATIVE,
  "evaluation.finetune.batch_size": _POSITIVE,
  "evaluation.finetune.epochs": _POSITIVE,
  "evaluation.finetune.fractions": _SOME,
  "evaluation.finetune.seeds": _NOT_NEGATIVE,
  "evaluation.finetune.settings": (
    (lambda pair: len(pair) == 2 and min(pair) >= 0),
    "≥ 0, 2",
  ),
}


def check_config(config: ConfigDict, *, devices: int) -> None:
  """Raises ConfigError for values that cannot work on this many devices."""
  _check_choices(config, _CHOICES)
  _check_views(config)
  augment_policy(config)
  _check_batch(config, devices)
  _check_ranges(config, _RANGES)
  check_report(config)
  data = config.data
  if data.crops == "device" and data.source not in _ARRAYS:
    raise ConfigError(
      f"data.crops=device needs arrays, data.source one of {', '.join(_ARRAYS)}, not "
      f"{data.source!r}, whose images are decoded on the host; set data.crops=auto"
    )
  if config.selection.probes and "b" not in RULES[config.selection.rule]:
    raise ConfigError(
      f"selection.probes {config.selection.probes} needs clusters, which rule "
      f"{config.selection.rule!r} does not make; set it to 0"
    )
  if config.checkpoint.best and not config.online.every_epochs:
    raise ConfigError(
      f"checkpoint.best {config.checkpoint.best!r} is a figure of online probes: set "
      "online.every_epochs to 1 or more"
    )
  check_evaluation(config, devices=devices)


def check_report(config: ConfigDict) -> None:
  """Raises ConfigError for a report that cannot be made."""
  _check_ranges(config, _REPORT_RANGES)


def check_evaluation(config: ConfigDict, *, devices: int) -> None:
  """Raises ConfigError for an evaluation that cannot work on this many devices."""
  _check_ranges(config, _EVALUATION_RANGES)
  evaluation = config.evaluation
  if evaluation.best and evaluation.step >= 0:
    raise ConfigError(
      f"evaluation.best and evaluation.step {evaluation.step} name two checkpoints: "
      "set one of them"
    )
  sizes = {"batch_size": evaluation.batch_size}
  # A large pod that pretrains need not suit a probe that it does not run.
  for name in {"linear", "finetune"} & set(evaluation.protocols):
    sizes[f"{name}.batch_size"] = evaluation[name].batch_size
  for key, size in sizes.items():
    if size < 1 or size % devices:
      raise ConfigError(f"evaluation.{key} {size} must divide by {devices} devices")
  _check_pixels(config)
  _check_choices(config, _EVALUATION_CHOICES)
  if min(evaluation.scales, default=0.0) * config.views.evaluation_side < 1:
    raise ConfigError(
      f"evaluation.scales {tuple(evaluation.scales)} must leave each side of "
      f"{config.views.evaluation_side} at least 1 pixel, and not be empty"
    )
  low, high = evaluation.crop_scale
  if not 0 < low <= high <= 1:
    raise ConfigError(
      f"evaluation.crop_scale {low}–{high} must satisfy 0 < min ≤ max ≤ 1"
    )


def check_against_data(config: ConfigDict, num_images: int) -> None:
  """Raises ConfigError for values that the number of training images rules out."""
  if config.batch_size > num_images:
    raise ConfigError(
      f"batch_size {config.batch_size} exceeds the {num_images} training images; "
      "lower it or bring more images"
    )
  steps = num_images // config.batch_size
  most = (2**31 - 1) // steps  # steps are counted in int32
  for key in ("epochs", "optimizer.warmup_epochs"):
    (epochs,) = _values(config, key)
    if epochs > most:
      raise ConfigError(f"{key} {epochs} of {steps} steps must be at most {most}")
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


def _values(config: ConfigDict, key: str) -> tuple[Any, ...]:
  value: Any = config
  for part in key.split("."):
    value = value[part]
  return tuple(value) if isinstance(value, tuple | list) else (value,)


def _check_choices(config: ConfigDict, choices: dict[str, tuple[str, ...]]) -> None:
  for key, allowed in choices.items():
    for value in _values(config, key):
      if value not in allowed:
        raise ConfigError(f"{key} {value!r} must be one of {', '.join(allowed)}")


def _check_ranges(
  config: ConfigDict, ranges: dict[str, tuple[Callable[[Any], bool], str]]
) -> None:
  for key, (holds, limit) in ranges.items():
    values = _values(config, key)
    if not values:
      raise ConfigError(f"{key} is empty: give at least one value")
    for value in values:
      if not holds(value):
        raise ConfigError(f"{key} {value} must be {limit}")


def _check_pixels(config: ConfigDict) -> None:
  for key, low in (("pixel_mean", -1e-9), ("pixel_std", 0.0)):
    values = tuple(config.data[key])
    if not all(low < value <= 1 for value in values):
      limit = "in [0, 1]" if low else "in (0, 1]"
      raise ConfigError(
        f"data.{key} {values} must be {limit}: of pixels between 0 and 1; of those in "
        "0 … 255 divide by 255"
      )


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
      raise ConfigError(
        f"views.min_scales and max_scales {low}–{high} must satisfy 0 < min ≤ max ≤ 1"
      )
  low, high = views.aspect_ratio
  if not 0 < low <= high:
    raise ConfigError(f"views.aspect_ratio {low}–{high} must satisfy 0 < min ≤ max")


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
