"""Starts a run: devices, workdir, mode."""

import jax
from etils import epath
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from rich.console import Console

from clim_jax import configuration
from clim_jax.configuration import ConfigError
from clim_jax.evaluate import evaluation
from clim_jax.experiment import open_experiment
from clim_jax.train.checkpoints import Checkpoints
from clim_jax.train.pretrain import pretrain

_CACHE = epath.Path("~/.cache/clim_jax").expanduser()


def join_processes(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
  """Makes this process one of several; where the cluster is known, None will do."""
  jax.distributed.initialize(coordinator, num_processes, process_id)


def run(config: ConfigDict, mode: str, workdir: epath.Path) -> None:
  """Pretrains (and then evaluates), or evaluates a checkpoint.

  Raises:
    ConfigError: the config cannot work, or is not that of the run in `workdir`.
  """
  # Compiled programs are kept from run to run, unless the user says where or not.
  if jax.config.jax_compilation_cache_dir is None:
    jax.config.update("jax_compilation_cache_dir", str(_CACHE))
  console = Console(quiet=jax.process_index() != 0)
  if mode == "evaluate":
    _evaluate(config, workdir, console)
  else:
    _pretrain(config, workdir, console)


def _pretrain(config: ConfigDict, workdir: epath.Path, console: Console) -> None:
  saved = workdir / "config.json"
  if saved.exists():
    changed = configuration.differences(config, saved)
    if changed:
      raise ConfigError(
        f"{workdir} holds a run with another config; use another --workdir or give "
        "the same values:\n  " + "\n  ".join(changed)
      )
  experiment = open_experiment(config)
  if jax.process_index() == 0:
    workdir.mkdir(parents=True, exist_ok=True)
    configuration.save(config, saved)
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices("workdir")
  console.print(
    f"{config.name}: {experiment.train.num_images} images, {config.epochs} epochs of "
    f"{experiment.stream.steps_per_epoch} steps on {experiment.mesh.devices.size} "
    f"{jax.default_backend()} device(s); workdir {workdir}",
    highlight=False,
    soft_wrap=True,
  )
  state = pretrain(experiment, workdir, console)
  _report(evaluation.evaluate(experiment, state, console), workdir, console)


def _evaluate(config: ConfigDict, workdir: epath.Path, console: Console) -> None:
  saved = workdir / "config.json"
  if not saved.exists():
    raise ConfigError(f"{workdir} holds no run: {saved} does not exist")
  config = configuration.restore_into(config, saved)
  experiment = open_experiment(config)
  path = epath.Path(config.evaluation.checkpoint or workdir / "checkpoints")
  if not path.is_dir():
    raise ConfigError(f"there are no checkpoints in {path}; set evaluation.checkpoint")
  checkpoints = Checkpoints(path)
  step = config.evaluation.step
  step = checkpoints.newest() if step < 0 else step
  if step is None:
    raise ConfigError(f"{path} holds no checkpoint yet")
  try:
    state = checkpoints.restore(step, experiment.init_state()).state
  except FileNotFoundError as error:
    raise ConfigError(f"evaluation.step: {error}") from error
  checkpoints.close()
  _report(evaluation.evaluate(experiment, state, console), workdir, console)


def _report(figures: dict | None, workdir: epath.Path, console: Console) -> None:
  if figures is not None:
    evaluation.write(figures, workdir)
    evaluation.print_table(figures, console)
