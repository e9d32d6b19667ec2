"""What the evaluation of a config must satisfy, checked before anything is read."""

from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from clim_jax.experiment.configuration import ConfigError
from clim_jax.models.encoder import LAYERS
from clim_jax.probes.subjects import REFERENCES

PROTOCOLS = ("knn", "linear_cached", "few_label", "linear", "finetune")


def check_evaluation(config: ConfigDict, *, devices: int) -> None:
  """Raises ConfigError for an evaluation that cannot work on this many devices."""
  evaluation = config.evaluation
  sizes = {"batch_size": evaluation.batch_size}
  # A large pod that pretrains need not suit a probe that it does not run.
  for name in {"linear", "finetune"} & set(evaluation.protocols):
    sizes[f"{name}.batch_size"] = evaluation[name].batch_size
  for key, size in sizes.items():
    if size < 1 or size % devices:
      raise ConfigError(f"evaluation.{key} {size} must divide by {devices} devices")
  choices = {
    "protocols": (evaluation.protocols, PROTOCOLS),
    "references": (evaluation.references, REFERENCES),
    "layer": ((evaluation.layer,), LAYERS),
    "encoder": ((evaluation.encoder,), ("query", "key")),
  }
  for key, (values, allowed) in choices.items():
    for value in values:
      if value not in allowed:
        raise ConfigError(
          f"evaluation.{key} {value!r} must be one of {', '.join(allowed)}"
        )
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
  _check_values(evaluation)


def _check_values(evaluation: ConfigDict) -> None:
  """Each of some values, or all of a tuple of values, which must not be empty."""
  above_zero = (lambda value: value > 0), "> 0"
  not_negative = (lambda value: value >= 0), "≥ 0"
  ranges: dict[str, tuple[Callable[[Any], bool], str]] = {
    "validation_fraction": ((lambda value: 0 < value < 1), "in (0, 1)"),
    "raw_pixel_side": above_zero,
    "knn.neighbours": above_zero,
    "knn.temperatures": above_zero,
    "linear_cached.regularisers": not_negative,
    "linear_cached.iterations": above_zero,
    "few_label.counts": above_zero,
    "few_label.seeds": not_negative,
    "few_label.iterations": above_zero,
    "linear.epochs": above_zero,
    "linear.learning_rates": above_zero,
    "linear.weight_decays": not_negative,
    "finetune.epochs": above_zero,
    "finetune.fractions": ((lambda value: 0 < value <= 1), "in (0, 1]"),
    "finetune.seeds": not_negative,
    "finetune.settings": ((lambda pair: len(pair) == 2 and min(pair) >= 0), "≥ 0, 2"),
  }
  for key, (holds, limit) in ranges.items():
    value: Any = evaluation
    for part in key.split("."):
      value = value[part]
    values = value if isinstance(value, tuple | list) else (value,)
    if not values:
      raise ConfigError(f"evaluation.{key} is empty: give at least one value")
    for one in values:
      if not holds(one):
        raise ConfigError(f"evaluation.{key} {one} must be {limit}")
