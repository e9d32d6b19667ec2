"""The bank: features of every image, row-sharded over the devices."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

from clim_jax import sharding


class BankBuilder:
  """Fills a bank [N_pad, F] a batch at a time, compiled once and used again.

  Each device embeds a run of consecutive ids, so that row i of the bank is image
  i and padding stands only at the end.
  """

  def __init__(
    self,
    mesh: Mesh,
    embed: Callable[[Any, jax.Array], jax.Array],
    *,
    num_images: int,
    dim: int,
    batch_size: int,
  ) -> None:
    """`embed` maps (variables, uint8 images [b, S, S, 3]) to features [b, dim]."""
    devices = mesh.devices.size
    rows = -(-num_images // devices)
    self._turns = -(-rows * devices // batch_size)
    self._block = -(-rows // self._turns)
    self._mesh, self._dim, self._num_images = mesh, dim, num_images
    self._empty = sharding.spmd(
      lambda: sharding.varying(jnp.zeros((self._turns * self._block, dim))),
      mesh,
      in_specs=(),
      out_specs=sharding.ROWS,
    )

    def fill(bank: jax.Array, variables: Any, images: jax.Array, turn: jax.Array):  # noqa: ANN202
      features = embed(variables, images)
      return lax.dynamic_update_slice(bank, features, (turn * self._block, 0))

    replicated = sharding.REPLICATED
    self._fill = sharding.spmd(
      fill,
      mesh,
      in_specs=(sharding.ROWS, replicated, sharding.ROWS, replicated),
      out_specs=sharding.ROWS,
      donate_argnums=(0,),
    )

  def image_ids(self) -> np.ndarray:
    """Ids of each turn's global batch, [turns, rows]; padding repeats the last."""
    devices = self._mesh.devices.size
    rows = np.arange(devices * self._turns * self._block)
    by_device = rows.reshape(devices, self._turns, self._block)
    ids = by_device.transpose(1, 0, 2).reshape(self._turns, -1)
    return np.minimum(ids, self._num_images - 1)

  def __call__(
    self, variables: Any, batches: Iterable[np.ndarray | jax.Array]
  ) -> jax.Array:
    """The bank of `batches`, the rows of each turn of `image_ids`; see `put_rows`."""
    bank = self._empty()
    for turn, images in enumerate(batches):
      rows = sharding.put_rows(self._mesh, images)
      bank = self._fill(bank, variables, rows, jnp.int32(turn))
    return bank
