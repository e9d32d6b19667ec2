"""Eight emulated CPU devices and strict numerics for every test."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import numpy as np
import pytest
from small_run import CLASSES, IMAGES, SIDE

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def arrays(tmp_path_factory):
  rng = np.random.default_rng(0)
  path = tmp_path_factory.mktemp("arrays") / "train.npz"
  images = rng.integers(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
  np.savez(path, image=images, label=np.arange(IMAGES) % CLASSES)
  return path
