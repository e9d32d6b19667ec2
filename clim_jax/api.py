"""What Python programs call: the modes of the command line, and encoders to use.

A run is a folder. Keys of a config are given by name, sections joined by two
underscores: `epochs=5, moco__temperature=0.1`; `clim --keys` lists them.
"""

import contextlib
import json
import os
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from clim_jax import launch, sharding
from clim_jax.data.arrays import array_source, read_npz
from clim_jax.data.source import ArraySource, BadImageError
from clim_jax.data.sources import folder_source
from clim_jax.evaluate.features import extract
from clim_jax.experiment import configuration, keys
from clim_jax.experiment.configuration import Overrides
from clim_jax.experiment.error import ConfigError
from clim_jax.experiment.experiment import evaluation_crop, exclusion_of
from clim_jax.experiment.limits import check_evaluation
from clim_jax.experiment.runs import Trained, open_run
from clim_jax.models.resnet import feature_dim
from clim_jax.plan.forecast import CannotFit
from clim_jax.report.page import PAGE
from clim_jax.whole import written_whole

PathLike = str | os.PathLike
_CONFIG_FOR = {"digits": "digits", "folder": "imagenette", "npz": "cifar10"}


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
  keys.override(found, _dotted(overrides))
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
  chosen, run = _begin(data, labels, out, config, overrides)
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
  if data is not None and not _is_path(data):
    raise ConfigError("check reads a folder or a .npz file; give its path")
  values = _data_keys(data, None)
  chosen = _load(config or _CONFIG_FOR[values.get("data.source", "digits")])
  values |= _dotted(overrides)
  keys.override(chosen, values)
  run = _path(out or configuration.new_workdir(chosen))
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
  chosen, run = _begin(data, labels, out, config, overrides)
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
  run, asked, given = _path(run), _load(config or "base"), bool(config)
  values = _dotted(overrides)
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
  asked, values = _load("base"), _dotted(overrides)
  keys.override(asked, values)
  request = launch.Request(overrides=Overrides(False, tuple(values)))
  launch.run(asked, "report", _path(run), request)
  return _path(run) / PAGE


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
  request = launch.Request("", str(_path(output)), format, Overrides(False, ()))
  launch.run(_load("base"), "export", _path(run), request)
  return _path(output)


class Encoder:
  """The encoder of a run: images in, features out. `load` makes one."""

  def __init__(self, trained: Trained) -> None:
    self._trained = trained
    self._mesh = sharding.make_mesh()

  @property
  def dim(self) -> int:
    """How many features an image has."""
    model = self._trained.config.model
    return feature_dim(model.backbone, model.width)

  def embed(self, images: PathLike | np.ndarray) -> np.ndarray:
    """Pooled features of the backbone, not normalised, [N, dim] float32.

        encoder = clim_jax.load("runs/mine")
        features = encoder.embed(images)
        features = encoder.embed("photos")  # rows as in encoder.files("photos")

    Args:
      images: uint8 [N, H, W] or [N, H, W, 3], of any size, or a folder.

    Raises:
      ConfigError: these are no images.
      BadImageError: a file cannot be decoded. With
        `load(run, data__on_bad_image="skip")` its row is NaN instead.
    """
    source = self._folder(images)[0] if _is_path(images) else _source(images, None)
    settings = self._trained.config
    rows = extract(
      self._mesh,
      self._trained.subject,
      source,
      evaluation_crop(settings),
      batch_size=settings.evaluation.batch_size,
    )
    rows[list(source.stand_ins)] = np.nan
    return rows

  def files(self, folder: PathLike) -> list[str]:
    """The paths of the images that `embed` finds in a folder, in its order."""
    return self._folder(folder)[1]

  def _folder(self, folder: PathLike) -> Any:
    path, data = str(_path(folder)), self._trained.config.data
    try:
      return folder_source(
        path,
        on_bad_image=data.on_bad_image,
        white_level=data.white_level,
        max_pixels=data.max_pixels,
        exclude=exclusion_of(data, path),
      )
    except (ValueError, OSError) as error:
      raise ConfigError(str(error)) from error


def load(run: PathLike, **overrides: Any) -> Encoder:
  """The encoder of a run.

      encoder = clim_jax.load("runs/mine")
      features = encoder.embed(images)  # [N, encoder.dim] float32

  Args:
    run: its folder.
    **overrides: keys of the sections `evaluation` and `data`, such as
      `evaluation__step=200` or `evaluation__encoder="key"`.

  Raises:
    ConfigError: there is no run or no such checkpoint, or a key is of its training.
  """
  asked, values = _load("base"), _dotted(overrides)
  keys.override(asked, values)
  launch.prepare()
  mesh, changed = sharding.make_mesh(), Overrides(False, tuple(values))
  trained = open_run(asked, _path(run), mesh, changed)
  check_evaluation(trained.config, devices=mesh.devices.size)
  return Encoder(trained)


def embed(run: PathLike, images: PathLike | np.ndarray, **overrides: Any) -> np.ndarray:
  """Features of images by the encoder of a run, [N, dim] float32.

      features = clim_jax.embed("runs/mine", images)

  Short for `load(run, **overrides).embed(images)`, which says the rest.
  """
  return load(run, **overrides).embed(images)


def _begin(
  data: Any, labels: Any, out: PathLike, config: Any, overrides: dict[str, Any]
) -> tuple[ConfigDict, epath.Path]:
  """The config and the folder of a run that is to begin; an array is kept there."""
  values = _data_keys(data, labels)
  chosen = _load(config or _CONFIG_FOR[values.get("data.source", "digits")])
  keys.override(chosen, values | _dotted(overrides))
  run = _path(out or configuration.new_workdir(chosen))
  if data is not None and not _is_path(data):
    chosen.data.path = _keep(data, labels, run)
  return chosen, run


def _load(config: PathLike | ConfigDict) -> ConfigDict:
  """A config of its own, checked."""
  if not isinstance(config, ConfigDict):
    return configuration.load(os.fspath(config))
  copied = config.copy_and_resolve_references()
  keys.conform(copied)
  return copied


def _dotted(overrides: dict[str, Any]) -> dict[str, Any]:
  return {name.replace("__", "."): value for name, value in overrides.items()}


def _is_path(data: Any) -> bool:
  return isinstance(data, str | os.PathLike)


def _path(path: PathLike) -> epath.Path:
  return epath.Path(path).expanduser()


def _source(images: Any, labels: Any) -> ArraySource:
  images = np.asarray(images)
  labels = None if labels is None else np.asarray(labels)
  try:
    return array_source(images, labels, "the array")
  except ValueError as error:
    raise ConfigError(str(error)) from error


def _data_keys(data: Any, labels: Any) -> dict[str, str]:
  """The keys that say where images are; of an array all but the path."""
  if labels is not None and (data is None or _is_path(data)):
    raise ConfigError("labels go with an array of images; a folder or file has its own")
  if data is None:
    return {}
  if not _is_path(data):
    return {"data.source": "npz"}
  path = _path(data)
  if path.is_dir():
    return {"data.source": "folder", "data.path": str(path)}
  if path.suffix == ".npz" and path.exists():
    return {"data.source": "npz", "data.path": str(path)}
  raise ConfigError(f"data {str(path)!r} is neither a folder nor a .npz file")


def _keep(images: Any, labels: Any, run: epath.Path) -> str:
  """Writes an array into its run, to be resumed and judged from; where it lies."""
  if jax.distributed.is_initialized():
    raise ConfigError("several processes share images by a file: give a .npz as data")
  source, path = _source(images, labels), (run / "images.npz").resolve()
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
