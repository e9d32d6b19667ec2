"""Pretrains, evaluates, embeds, exports: python main.py --config=configs/digits.py."""

import os
import sys
import time

# TensorFlow only reads images: no notes on its kernels.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from absl import app, flags, logging
from etils import epath
from ml_collections import config_flags

from clim_jax import launch
from clim_jax.data.sources import BadImageError
from clim_jax.experiment import configuration, cores

_DEFAULT_CONFIG = "configs/digits.py"
_FLAGS = flags.FLAGS


def _define_flags() -> None:
  config_flags.DEFINE_config_file("config", _DEFAULT_CONFIG, "What to run.")
  flags.DEFINE_enum("mode", "pretrain", launch.MODES, "What to do.")
  flags.DEFINE_string("workdir", "", "Where the run lives; by default below runs/.")
  flags.DEFINE_string("input", "", "embed: a folder of images.")
  flags.DEFINE_string("output", "", "embed: .npz or .parquet; export: file or folder.")
  flags.DEFINE_string("format", "", f"export: {', '.join(launch.FORMATS)}.")
  flags.DEFINE_bool(
    "distributed", False, "One of several processes; Cloud TPU and Slurm need no more."
  )
  flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
  flags.DEFINE_integer("num_processes", None, "How many processes there are.")
  flags.DEFINE_integer("process_id", None, "Which one this is.")


def main(_: list[str]) -> None:
  logging.set_verbosity(logging.WARNING)  # Orbax narrates every save
  if _FLAGS.distributed:
    launch.join_processes(_FLAGS.coordinator, _FLAGS.num_processes, _FLAGS.process_id)
  workdir = _FLAGS.workdir
  if not workdir:
    writes_there = _FLAGS.mode in ("pretrain", "evaluate")
    given = _FLAGS.config.model.weights and not writes_there
    if not given and (_FLAGS.distributed or _FLAGS.mode != "pretrain"):
      raise configuration.ConfigError("say where the run lives: --workdir=DIR")
    workdir = f"runs/{_FLAGS.config.name}-{time.strftime('%Y%m%d-%H%M%S')}"
  workdir = epath.Path(workdir)
  said = configuration.given(sys.argv[1:])
  request = launch.Request(_FLAGS.input, _FLAGS.output, _FLAGS.format, said)
  cores.use_cores(_FLAGS.config, _FLAGS.mode, workdir, said)
  launch.run(_FLAGS.config, _FLAGS.mode, workdir, request)


if __name__ == "__main__":
  try:
    # Before the flags are defined: ml_collections applies overrides as it does so.
    configuration.check_override_keys(sys.argv[1:], default_path=_DEFAULT_CONFIG)
    _define_flags()
    app.run(main)
  except (configuration.ConfigError, BadImageError, FloatingPointError) as error:
    sys.exit(f"error: {error}")
