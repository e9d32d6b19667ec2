"""An encoder small enough to compile in seconds, and images for it."""

import jax
import jax.numpy as jnp
import numpy as np

from clim_jax import sharding
from clim_jax.data.labelled import LabelledBatch
from clim_jax.method.state import initial_variables
from clim_jax.models.encoder import Encoder
from clim_jax.models.operations import FOR_CPU
from clim_jax.probes.subjects import Subject

SIDE, WIDTH = 8, 4
DIM = 4 * WIDTH
ENCODER = Encoder(
  backbone="resnet_small",
  stem="cifar",
  width=WIDTH,
  hidden_dim=12,
  embedding_dim=6,
  groups=1,
  pixel_mean=(0.5, 0.5, 0.5),
  pixel_std=(0.25, 0.25, 0.25),
  operations=FOR_CPU,
  dtype=jnp.float32,
)


def subject() -> Subject:
  return Subject("tiny", ENCODER, initial_variables(0, ENCODER, side=SIDE))


def mesh(devices: int) -> jax.sharding.Mesh:
  return sharding.make_mesh(jax.devices()[:devices])


def random_batches(
  steps: int, rows: int = 16, *, classes: int = 3, seed: int = 0
) -> list[LabelledBatch]:
  rng = np.random.default_rng(seed)
  return [
    LabelledBatch(
      rng.integers(0, 256, (rows, SIDE, SIDE, 3), dtype=np.uint8),
      rng.integers(0, classes, rows).astype(np.int32),
      rng.random(rows) < 0.5,
    )
    for _ in range(steps)
  ]


def mirrored(batch: LabelledBatch) -> np.ndarray:
  """Its images with the flips done."""
  flip = batch.flips[:, None, None, None]
  return np.where(flip, batch.images[:, :, ::-1], batch.images)


def same_trees(first: object, second: object) -> bool:
  pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
  return all(np.array_equal(a, b) for a, b in pairs)
