"""Eight emulated CPU devices, strict numerics and kept programs for every test."""

import os

import kept_programs

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.pop("JAX_NUM_CPU_DEVICES", None)  # it would override the flag
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Before jax is imported, so that also its first program and every process that a test
# starts uses them. `JAX_ENABLE_COMPILATION_CACHE=0` compiles all anew.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", kept_programs.folder())
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Most programs run a few times only: LLVM would optimise for longer than it saves.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import numpy as np
import pytest
from small_run import CLASSES, IMAGES, SIDE, TEST_IMAGES, run, small

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def arrays(tmp_path_factory):
  return _save(tmp_path_factory.mktemp("arrays") / "train.npz", IMAGES, seed=0)


@pytest.fixture(scope="session")
def held_out_arrays(tmp_path_factory):
  """Other images than `arrays`."""
  return _save(tmp_path_factory.mktemp("arrays") / "test.npz", TEST_IMAGES, seed=1)


@pytest.fixture(scope="session")
def plain_run(arrays, tmp_path_factory):
  """The workdir of a run of plain MoCo v2, pretrained and not evaluated: "first"."""
  workdir = tmp_path_factory.mktemp("runs") / "first"
  run(small("base", arrays, selection__rule="none"), workdir)
  return workdir


@pytest.fixture(scope="session")
def center_wise(arrays, tmp_path_factory):
  """A config that selects at epochs 1 and 3 of 4, and the run that it made."""
  config = small("base", arrays)
  config.epochs = 4  # of two steps
  config.selection.refresh_epochs = 2
  config.checkpoint.keep = 10
  workdir = tmp_path_factory.mktemp("runs") / "center_wise"
  run(config, workdir)
  return config, workdir


def _save(path, images, *, seed):
  rng = np.random.default_rng(seed)
  pixels = rng.integers(0, 256, (images, SIDE, SIDE, 3), dtype=np.uint8)
  np.savez(path, image=pixels, label=np.arange(images) % CLASSES)
  return path


@pytest.fixture(scope="module")
def no_kept_programs():
  """For programs of other machines, which are written but cannot be read again."""
  name = "jax_persistent_cache_min_compile_time_secs"
  least = getattr(jax.config, name)
  jax.config.update(name, float("inf"))
  yield
  jax.config.update(name, least)
