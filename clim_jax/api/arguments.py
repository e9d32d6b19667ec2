"""The arguments of what Python programs call, as configs, folders and images."""

import os
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from clim_jax.data.arrays import array_source, read_npz
from clim_jax.data.source import ArraySource
from clim_jax.experiment import configuration, keys
from clim_jax.experiment.error import ConfigError
from clim_jax.whole import written_whole

PathLike = str | os.PathLike
_CONFIG_FOR = {"digits": "digits", "folder": "imagenette", "npz": "cifar10"}


def config_for(config: PathLike | ConfigDict, values: dict[str, Any]) -> ConfigDict:
  """What was given, or the config of the kind of images that the keys name."""
  return load_config(config or _CONFIG_FOR[values.get("data.source", "digits")])


def begin(
  data: Any, labels: Any, out: PathLike, config: Any, overrides: dict[str, Any]
) -> tuple[ConfigDict, epath.Path]:
  """The config and the folder of a run that is to begin; an array is kept there."""
  values = data_keys(data, labels)
  chosen = config_for(config, values)
  keys.override(chosen, values | dotted(overrides))
  run = folder_of(out or configuration.new_workdir(chosen))
  if data is not None and not is_path(data):
    chosen.data.path = _keep(data, labels, run)
  return chosen, run


def load_config(config: PathLike | ConfigDict) -> ConfigDict:
  """A config of its own, checked."""
  if not isinstance(config, ConfigDict):
    return configuration.load(os.fspath(config))
  copied = config.copy_and_resolve_references()
  keys.conform(copied)
  return copied


def dotted(overrides: dict[str, Any]) -> dict[str, Any]:
  """Keys as a config has them: `moco__temperature` is `moco.temperature`."""
  return {name.replace("__", "."): value for name, value in overrides.items()}


def is_path(data: Any) -> bool:
  return isinstance(data, str | os.PathLike)


def folder_of(path: PathLike) -> epath.Path:
  """A path whose ~ is the home."""
  return epath.Path(path).expanduser()


def source_of(images: Any, labels: Any) -> ArraySource:
  """Images in memory; raises ConfigError if they are none."""
  images = np.asarray(images)
  labels = None if labels is None else np.asarray(labels)
  try:
    return array_source(images, labels, "the array")
  except ValueError as error:
    raise ConfigError(str(error)) from error


def data_keys(data: Any, labels: Any) -> dict[str, str]:
  """The keys that say where images are; of an array all but the path."""
  if labels is not None and (data is None or is_path(data)):
    raise ConfigError("labels go with an array of images; a folder or file has its own")
  if data is None:
    return {}
  if not is_path(data):
    return {"data.source": "npz"}
  path = folder_of(data)
  if path.is_dir():
    return {"data.source": "folder", "data.path": str(path)}
  if path.suffix == ".npz" and path.exists():
    return {"data.source": "npz", "data.path": str(path)}
  raise ConfigError(f"data {str(path)!r} is neither a folder nor a .npz file")


def _keep(images: Any, labels: Any, run: epath.Path) -> str:
  """Writes an array into its run, to be resumed and judged from; where it lies."""
  if jax.distributed.is_initialized():
    raise ConfigError("several processes share images by a file: give a .npz as data")
  source, path = source_of(images, labels), (run / "images.npz").resolve()
  arrays = {"image": source.images}
  if source.known_labels is not None:
    arrays["label"] = source.known_labels
  if not path.exists():
    run.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as beside, beside.open("wb") as file:
      np.savez(file, **arrays)
    return str(path)
  kept = read_npz(str(path))[""]
  same = np.array_equal(kept.images, source.images)
  if not same or not np.array_equal(kept.known_labels, source.known_labels):
    raise ConfigError(f"{run} holds a run on other images; give another out")
  return str(path)
