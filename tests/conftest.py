"""Eight emulated CPU devices and strict numerics for every test."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.pop("JAX_NUM_CPU_DEVICES", None)  # it would override the flag
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import numpy as np
import pytest
from small_run import CLASSES, IMAGES, SIDE, TEST_IMAGES

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def arrays(tmp_path_factory):
  return _save(tmp_path_factory.mktemp("arrays") / "train.npz", IMAGES, seed=0)


@pytest.fixture(scope="session")
def held_out_arrays(tmp_path_factory):
  """Other images than `arrays`."""
  return _save(tmp_path_factory.mktemp("arrays") / "test.npz", TEST_IMAGES, seed=1)


def _save(path, images, *, seed):
  rng = np.random.default_rng(seed)
  pixels = rng.integers(0, 256, (images, SIDE, SIDE, 3), dtype=np.uint8)
  np.savez(path, image=pixels, label=np.arange(images) % CLASSES)
  return path
