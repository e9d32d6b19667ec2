"""What a ResNet is computed by, decided once for the device that it runs on."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from clim_jax.models import convolution, norm, pooling
from clim_jax.models.cpu import convolution as cpu_convolution
from clim_jax.models.cpu import sums


class Operations(NamedTuple):
  """Functions that compute the same on every device, and are fast on some."""

  convolve: Callable[[int, jax.Array, jax.Array], jax.Array]
  row_sums: norm.RowSums
  max_pool: Callable[[jax.Array], jax.Array]


BY_XLA = Operations(convolution.convolve, norm.row_sums, pooling.max_pool)
FOR_CPU = Operations(
  cpu_convolution.convolve, sums.row_sums, pooling.gathering_max_pool
)
# A GPU that is to compute the same bits twice (--xla_gpu_deterministic_ops) refuses to
# scatter, as XLA's gradient of max-pooling does.
FOR_GPU = BY_XLA._replace(max_pool=pooling.gathering_max_pool)


def operations_for(platform: str) -> Operations:
  """Those for devices of a platform: "cpu", "gpu" or "tpu"."""
  return {"cpu": FOR_CPU, "gpu": FOR_GPU}.get(platform, BY_XLA)
