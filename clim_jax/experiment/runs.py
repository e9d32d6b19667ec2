"""What a run has left: its config and its encoder."""

from typing import Any, NamedTuple

import jax
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict
from rich.console import Console

from clim_jax import sharding
from clim_jax.experiment import configuration
from clim_jax.experiment.cautions import warn
from clim_jax.experiment.checkpoints import Checkpoints, first_line
from clim_jax.experiment.configuration import ConfigError, Overrides
from clim_jax.experiment.experiment import init_variables, make_encoder
from clim_jax.probes.subjects import Subject
from clim_jax.weights.error import WeightsError
from clim_jax.weights.foreign import load_weights, of_our_own
from clim_jax.weights.spec import recorded


class Trained(NamedTuple):
  """An encoder and where it comes from."""

  subject: Subject
  config: ConfigDict  # of its training, with what may differ now
  step: int | None  # None for weights from elsewhere
  origin: str
  has_projection: bool  # False: that of a file without one is random

  def about(self) -> dict[str, Any]:
    """What `evaluation.json` says of it."""
    encoder = None if self.step is None else self.config.evaluation.encoder
    return {
      "origin": self.origin,
      "step": self.step,
      "encoder": encoder,
      "config": self.config.name,
      "pixel_mean": list(self.config.data.pixel_mean),
      "pixel_std": list(self.config.data.pixel_std),
    }


def open_trained(
  config: ConfigDict,
  workdir: epath.Path,
  mesh: Mesh,
  console: Console,
  overrides: Overrides,
) -> Trained:
  """The encoder of the run in `workdir`, or of the file `model.weights`.

  Raises:
    ConfigError: there is neither, or both; or the file does not fit the config.
  """
  if not config.model.weights:
    return open_run(config, workdir, mesh, overrides)
  if (workdir / "config.json").exists():
    raise ConfigError(
      f"{workdir} holds a run and model.weights is {config.model.weights!r}: give "
      "another --workdir to judge the file, or no model.weights to judge the run"
    )
  path = epath.Path(config.model.weights)
  initial = init_variables(config, mesh)
  variables, has_projection = with_weights(config, initial, mesh, console)
  if not has_projection and config.evaluation.layer != "features":
    raise ConfigError(
      f"evaluation.layer {config.evaluation.layer!r} is of the projection, which "
      f"{path} has not, or of other widths: set it to 'features'"
    )
  name = path.name.split(".")[0]
  subject = Subject(name, make_encoder(config, mesh, groups=1), variables)
  return Trained(subject, config, None, str(path), has_projection)


def open_run(
  config: ConfigDict, workdir: epath.Path, mesh: Mesh, overrides: Overrides
) -> Trained:
  """The encoder of a checkpoint; `config.evaluation` says of which.

  Raises:
    ConfigError: there is no run, or no such checkpoint.
  """
  saved = workdir / "config.json"
  if not saved.exists():
    raise ConfigError(
      f"{workdir} holds no run: {saved} does not exist; give the --workdir of a run, "
      "or weights by --config.model.weights=FILE"
    )
  config = configuration.restore_into(config, saved, overrides)
  evaluation = config.evaluation
  path = epath.Path(evaluation.checkpoint or workdir / "checkpoints")
  if not path.is_dir():
    raise ConfigError(
      f"there are no checkpoints in {path}; set evaluation.checkpoint=FOLDER"
    )
  with Checkpoints(path, best=config.checkpoint.best) as checkpoints:
    step = _asked_for(config, checkpoints, path)
    try:
      variables = checkpoints.restore_encoder(
        step, evaluation.encoder, sharding.replicated(mesh)
      )
    except FileNotFoundError as error:
      raise ConfigError(f"evaluation.step: {error}") from error
    except Exception as error:  # whatever orbax and tensorstore make of damage
      raise ConfigError(
        f"the checkpoint {path / str(step)} cannot be read ({first_line(error)}); set "
        "evaluation.step to another one, or pretrain on: the run steps back to a good "
        "one"
      ) from error
  subject = Subject(workdir.name, make_encoder(config, mesh, groups=1), variables)
  return Trained(subject, config, step, str(path / str(step)), has_projection=True)


def _asked_for(config: ConfigDict, checkpoints: Checkpoints, path: epath.Path) -> int:
  """The step that `config.evaluation` means; raises ConfigError if there is none."""
  if config.evaluation.step >= 0:
    return config.evaluation.step
  if not config.evaluation.best:
    step = checkpoints.newest()
    if step is None:
      raise ConfigError(f"{path} holds no checkpoint yet")
    return step
  best = checkpoints.best()
  if best is None:
    raise ConfigError(
      f"evaluation.best: no checkpoint in {path} has a figure "
      f"{config.checkpoint.best!r}; train with checkpoint.best=online/knn_top1, or "
      "take the newest by evaluation.best=False"
    )
  return best.step


def with_weights(
  config: ConfigDict, variables: dict[str, Any], mesh: Mesh, console: Console
) -> tuple[dict[str, Any], bool]:
  """`variables` with what `model.weights` holds of them, on every device.

  That is a file, or the folder of another run, of whose newest checkpoint the encoder
  is taken that it evaluates.

  Returns:
    The variables, and whether there was a projection that fits.

  Raises:
    ConfigError: they cannot be read, or are of another network.
  """
  path, host = config.model.weights, jax.device_get(variables)
  try:
    if (epath.Path(path) / "checkpoints").is_dir():
      run = open_run(config, epath.Path(path), mesh, Overrides(False, ()))
      theirs = jax.device_get(run.subject.variables)
      loaded = of_our_own(
        (theirs["params"], theirs["batch_stats"]), host["params"], host["batch_stats"]
      )
      path = run.origin
    else:
      loaded = load_weights(path, host["params"], host["batch_stats"])
  except WeightsError as error:
    raise ConfigError(f"model.weights: {error}") from error
  parts = "backbone and projection" if loaded.projection else "backbone alone"
  unused = len(loaded.ignored)
  ignored = f"; {unused} tensors have no use here" if unused else ""
  console.print(
    f"weights of {path}: layout of {loaded.layout}, {parts}{ignored}",
    highlight=False,
    soft_wrap=True,
  )
  warn(console, prepared_otherwise(config))
  filled = {"params": loaded.params, "batch_stats": loaded.batch_stats}
  return jax.device_put(filled, sharding.replicated(mesh)), loaded.projection


def prepared_otherwise(config: ConfigDict) -> list[str]:
  """A warning where the file's own images were prepared in another way."""
  theirs = recorded(epath.Path(config.model.weights))
  if theirs is None:
    return []
  ours = {
    "views.evaluation_side": theirs.side,
    "views.evaluation_fraction": theirs.crop_fraction,
    "data.pixel_mean": theirs.pixel_mean,
    "data.pixel_std": theirs.pixel_std,
  }
  differ = []
  for key, value in ours.items():
    section, name = key.split(".")
    here = config[section][name]
    here = tuple(here) if isinstance(value, tuple) else here
    if here != value:
      differ.append(f"{key}={value} and not {here}".replace(", ", ","))
  if not differ:
    return []
  return [
    f"preprocessing.json beside {config.model.weights} says {'; '.join(differ)}: set "
    "the config to it, or features are not what they were"
  ]
