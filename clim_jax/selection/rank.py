"""RankMe: in how many directions the images' features lie."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

from clim_jax import sharding


def rank_me(mesh: Mesh, bank: jax.Array, num_images: int) -> float:
  """Exponential of the entropy of the singular values: 1 … min(N, F).

  Args:
    mesh: the devices over which the bank's rows are sharded.
    bank: [N_pad, F] float32; rows from N on are padding.
    num_images: N.

  Reference: Garrido et al. 2023 (arXiv 2210.02885), equation 1; here of unit rows.
  """
  gram = np.asarray(sharding.to_host(_gram_fn(mesh, num_images)(bank)), np.float64)
  singular = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0.0))
  share = singular / singular.sum()
  share = share[share > 0]
  return float(np.exp(-np.sum(share * np.log(share))))


@functools.cache
def _gram_fn(mesh: Mesh, num_images: int):  # noqa: ANN202
  def gram(rows: jax.Array) -> jax.Array:
    ids = sharding.row_offset(len(rows)) + jnp.arange(len(rows))
    rows = jnp.where(ids[:, None] < num_images, rows, 0.0)
    product = jnp.dot(rows.T, rows, precision=lax.Precision.HIGHEST)
    return lax.psum(product, sharding.AXIS)

  specs = {"in_specs": sharding.ROWS, "out_specs": sharding.REPLICATED}
  return sharding.spmd(gram, mesh, **specs)
