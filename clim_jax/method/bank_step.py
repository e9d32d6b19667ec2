"""The train step that also keeps the bank, so that selection needs no pass of its own.

The momentum encoder embeds a crop of every anchor anyway, as its key. Those features
differ from an exact bank's: the crop is a random, augmented one, batch normalisation
uses the batch's statistics, and a row is as old as its image's last visit. They cost
one write of the batch's rows.
"""

from collections.abc import Callable

import jax
from jax.sharding import Mesh

from clim_jax import sharding
from clim_jax.method.batch import Batch
from clim_jax.method.objective import Metrics
from clim_jax.method.state import TrainState
from clim_jax.method.views import gather
from clim_jax.models.encoder import unit_norm
from clim_jax.selection.bank import write_rows

BankStep = Callable[
  [TrainState, jax.Array, Batch], tuple[TrainState, jax.Array, Metrics]
]


def make_bank_replica_step(
  step: Callable[[TrainState, Batch], tuple[TrainState, Metrics, jax.Array]],
) -> BankStep:
  """The step of one replica: (state, its rows of the bank, of the batch) → the same.

  Only anchors' keys are written: every image is an anchor once an epoch, whereas how
  often it is a positive depends on the bank. With a symmetric loss each anchor has two
  keys, of which the bank takes the first role's.

  Args:
    step: as `make_embedding_step` makes it.
  """

  def train_step(
    state: TrainState, bank: jax.Array, batch: Batch
  ) -> tuple[TrainState, jax.Array, Metrics]:
    new_state, metrics, features = step(state, batch)
    # A batch's images live anywhere in the bank. All replicas see all B features,
    # which are few, and nobody sees the bank, which is not.
    ids, rows = gather(batch.key_ids), gather(unit_norm(features))
    return new_state, write_rows(bank, ids, rows), metrics

  return train_step


def make_bank_train_step(mesh: Mesh, train_step: BankStep) -> BankStep:
  """Maps a per-replica step over the mesh; the given state and bank are consumed."""
  return sharding.spmd(
    train_step,
    mesh,
    in_specs=(sharding.REPLICATED, sharding.ROWS, sharding.ROWS),
    out_specs=(sharding.REPLICATED, sharding.ROWS, sharding.REPLICATED),
    donate_argnums=(0, 1),
    convolves=True,
  )
