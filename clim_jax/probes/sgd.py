"""What probes and fine-tuning by SGD share: schedule, momentum, mirrored batches."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from clim_jax import sharding
from clim_jax.data.labelled import LabelledBatch

momentum = optax.trace(0.9)
# MoCo's probe lowers the rate at epochs 60 and 80 of 100, SwAV's fine-tuning at 12 and
# 16 of 20.
_DECAY_AT = (0.6, 0.8)


def steps(
  mesh: Mesh, batches: Iterable[LabelledBatch], *, total_steps: int, decay: float
) -> Iterator[tuple[jax.Array, jax.Array, np.float32]]:
  """What each step is given: images, labels and a factor of the learning rate.

  Args:
    mesh: devices.
    batches: this process's rows of `total_steps` batches.
    total_steps: after 60% and 80% of them the factor is multiplied by `decay`.
    decay: of the rate.

  Yields:
    [B, S, S, 3] uint8, mirrored where drawn, and [B] int32, rows sharded; and a number
    on the host, so that no step waits for it.
  """
  for step, batch in enumerate(batches):
    images, labels, flips = sharding.put_rows(mesh, tuple(batch))
    decays = sum(step >= round(at * total_steps) for at in _DECAY_AT)
    yield _mirror(images, flips), labels, np.float32(decay**decays)


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
