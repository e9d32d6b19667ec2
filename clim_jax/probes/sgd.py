"""What probes and fine-tuning by SGD share: schedule, momentum, mirrored batches."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from clim_jax import sharding
from clim_jax.data.labelled import LabelledBatch

MOMENTUM = 0.9
# MoCo's probe lowers the rate at epochs 60 and 80 of 100, SwAV's fine-tuning at 12 and
# 16 of 20.
DECAY_AT = (0.6, 0.8)


def rate_factor(step: int, total_steps: int, factor: float) -> np.float32:
  """1, then `factor`, then `factor`²; on the host, so that no step waits for it."""
  return np.float32(factor ** sum(step >= round(at * total_steps) for at in DECAY_AT))


def put(mesh: Mesh, batch: LabelledBatch) -> tuple[jax.Array, jax.Array]:
  """Images [B, S, S, 3] uint8, mirrored where drawn, and labels [B], rows sharded."""
  images, labels, flips = sharding.put_rows(mesh, tuple(batch))
  return _mirror(images, flips), labels


@jax.jit
def _mirror(images: jax.Array, flips: jax.Array) -> jax.Array:
  return jnp.where(flips[:, None, None, None], images[:, :, ::-1], images)


def jit(mesh: Mesh, function: Any, **options: Any) -> Any:
  """Compiled for whole batches whose rows are shared out by the compiler.

  So batch normalisation sees the whole batch, on any number of devices.
  """
  return jax.jit(
    function, compiler_options=sharding.convolution_options(mesh), **options
  )
