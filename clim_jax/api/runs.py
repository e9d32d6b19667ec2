"""Configs, and the modes of the command line, for Python programs."""

import contextlib
import json
import os
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from clim_jax import launch
from clim_jax.api.arguments import (
  PathLike,
  begin,
  config_for,
  data_keys,
  dotted,
  folder_of,
  is_path,
  load_config,
)
from clim_jax.data.source import BadImageError
from clim_jax.experiment import configuration, keys
from clim_jax.experiment.configuration import Overrides
from clim_jax.experiment.error import ConfigError
from clim_jax.plan.forecast import CannotFit
from clim_jax.report.page import PAGE


def config(name: PathLike = "base", **overrides: Any) -> ConfigDict:
  """A config that comes with this package, or one of a file of your own.

      config = clim_jax.config("digits", epochs=5)
      config.moco.temperature = 0.2
      clim_jax.pretrain(config=config)

  Args:
    name: one of `config_names()`, or the path of a file that ends in .py.
    **overrides: keys, such as `moco__temperature=0.1`.

  Raises:
    ConfigError: there is no such config or key, or a key cannot hold its value.
  """
  found = configuration.load(os.fspath(name))
  keys.override(found, dotted(overrides))
  return found


def config_names() -> dict[str, str]:
  """The names that `config` knows, each with a line on what it is for.

  for name, what in clim_jax.config_names().items():
    print(name, what)
  """
  return configuration.names()


def pretrain(
  data: PathLike | np.ndarray | None = None,
  *,
  out: PathLike = "",
  config: PathLike | ConfigDict = "",
  labels: np.ndarray | None = None,
  **overrides: Any,
) -> epath.Path:
  """Trains an encoder on images without labels, then evaluates it if there are some.

      run = clim_jax.pretrain("photos", out="runs/photos", epochs=100)
      run = clim_jax.pretrain(images, out="runs/mine", views__sides=(48, 32))

  Called again with the same arguments, it goes on from the newest checkpoint.

  Args:
    data: a folder of images, a .npz file, or an array, uint8 [N, H, W] or
      [N, H, W, 3], which is kept as images.npz in the run; None: what the config says.
    out: the folder of the run; by default a new one below runs/.
    config: a name, a path or what `config` returned; by default `imagenette` for a
      folder, `cifar10` for arrays, `digits` for nothing.
    labels: of an array, [N] int: for figures and the evaluation, never for training.
    **overrides: keys of the config, such as `moco__temperature=0.1`.

  Returns:
    The folder of the run.

  Raises:
    ConfigError: something cannot work; the message has the value and the mend.
  """
  chosen, run = begin(data, labels, out, config, overrides)
  launch.run(chosen, "pretrain", run)
  return run


def check(
  data: PathLike | None = None,
  *,
  out: PathLike = "",
  config: PathLike | ConfigDict = "",
  **overrides: Any,
) -> dict[str, Any]:
  """Looks through all images once: which are broken, there twice, in both parts.

      found = clim_jax.check("photos", out="runs/photos")
      left_out = "runs/photos/check/leave_out.txt"
      clim_jax.pretrain("photos", out="runs/photos", data__exclude=left_out)

  Args:
    data: a folder of images or a .npz file; None: what the config or the run in `out`
      says.
    out: where the folder `check` goes; by default a new one below runs/.
    config: as that of `pretrain`.
    **overrides: keys of the config.

  Returns:
    What check/report.json holds.

  Raises:
    ConfigError: the images cannot be opened.
  """
  if data is not None and not is_path(data):
    raise ConfigError("check reads a folder or a .npz file; give its path")
  values = data_keys(data, None)
  chosen = config_for(config, values)
  values |= dotted(overrides)
  keys.override(chosen, values)
  run = folder_of(out or configuration.new_workdir(chosen))
  changed = Overrides(bool(config), tuple(values))
  with contextlib.suppress(BadImageError):  # the report names them
    launch.run(chosen, "check", run, launch.Request(overrides=changed))
  return json.loads((run / "check" / "report.json").read_text())


def plan(
  data: PathLike | np.ndarray | None = None,
  *,
  out: PathLike = "",
  config: PathLike | ConfigDict = "",
  labels: np.ndarray | None = None,
  target: str = "",
  price_per_hour: float | None = None,
  **overrides: Any,
) -> dict[str, Any]:
  """What `pretrain` with the same arguments will take; prints a table of it.

      found = clim_jax.plan("photos", out="runs/photos", epochs=100)
      found["seconds"]["total"], found["memory"]["peak"], found["fits"]

  Args:
    data: this, `out`, `config`, `labels` and the keys are those of `pretrain`.
    target: TPUs that are not here, such as "tpu:v5e:2x4"; "": this machine.
    price_per_hour: of the machine, if the run is to be priced.

  Returns:
    What plan.json in `out` holds: bytes, seconds, warnings, and whether it `fits`.

  Raises:
    ConfigError: something cannot work; the message has the value and the mend.
  """
  chosen, run = begin(data, labels, out, config, overrides)
  request = launch.Request(target=target, price_per_hour=price_per_hour)
  with contextlib.suppress(CannotFit):  # the record says so
    launch.run(chosen, "plan", run, request)
  return json.loads((run / "plan.json").read_text())


def evaluate(
  run: PathLike, *, config: PathLike | ConfigDict = "", **overrides: Any
) -> dict[str, Any]:
  """Judges the encoder of a run; prints a table and writes it into the run.

      found = clim_jax.evaluate("runs/mine", config="evaluate/knn")
      found = clim_jax.evaluate("runs/mine", evaluation__protocols="knn")

  Args:
    run: its folder.
    config: a protocol, one of `evaluate/…` of `config_names()`; by default what the
      run says itself.
    **overrides: keys of the sections `evaluation` and `data`.

  Returns:
    What evaluation.json holds; {} where the images have no labels.

  Raises:
    ConfigError: there is no run, or a key is of its training.
  """
  run, asked, given = folder_of(run), load_config(config or "base"), bool(config)
  values = dotted(overrides)
  keys.override(asked, values)
  changed = Overrides(given, tuple(values))
  launch.run(asked, "evaluate", run, launch.Request(overrides=changed))
  saved = configuration.restore_into(asked, run / "config.json", changed)
  name = "-".join(["evaluation", *filter(None, [saved.evaluation.name])])
  path = run / f"{name}.json"
  return json.loads(path.read_text()) if path.exists() else {}


def report(run: PathLike, **overrides: Any) -> epath.Path:
  """Makes the page of a run, also of one that goes on or was stopped.

      page = clim_jax.report("runs/mine")
      page = clim_jax.report("runs/mine", report__images=500)

  Args:
    run: its folder.
    **overrides: keys of the sections `report`, `evaluation` and `data`.

  Returns:
    The page, one file that needs no network.

  Raises:
    ConfigError: there is no run, or a key is of its training.
  """
  asked, values = load_config("base"), dotted(overrides)
  keys.override(asked, values)
  request = launch.Request(overrides=Overrides(False, tuple(values)))
  launch.run(asked, "report", folder_of(run), request)
  return folder_of(run) / PAGE


def export(run: PathLike, format: str, output: PathLike) -> epath.Path:
  """Writes the backbone of a run for another library.

      clim_jax.export("runs/mine", "timm", "resnet")
      model = timm.create_model("local-dir:resnet", pretrained=True, num_classes=0)

  Args:
    run: its folder.
    format: torchvision, timm, transformers, detectron2, onnx or hub-folder.
    output: the file or folder to write.

  Returns:
    `output` as a path.

  Raises:
    ConfigError: there is no run, the format cannot hold its network or lacks a package.
  """
  request = launch.Request(
    output=str(folder_of(output)), format=format, overrides=Overrides(False, ())
  )
  launch.run(load_config("base"), "export", folder_of(run), request)
  return folder_of(output)
