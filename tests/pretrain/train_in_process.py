"""One of several processes that pretrain together; started by test_processes.py.

Arguments: port of the coordinator, this process of two, data file, workdir.
"""

import pathlib
import sys

import jax

sys.path.append(str(pathlib.Path(__file__).parents[1]))

from small_run import small

from clim_jax import launch


def config(path):
  """Three epochs of two steps, with a selection before the second."""
  config = small("base", path)
  config.epochs = 3
  config.log.destinations = ("tensorboard",)  # with pictures that all processes make
  return config


if __name__ == "__main__":
  port, process, path, workdir = sys.argv[1:]
  launch.join_processes(f"localhost:{port}", 2, int(process))
  assert jax.device_count() == 4
  launch.run(config(path), "pretrain", pathlib.Path(workdir))
