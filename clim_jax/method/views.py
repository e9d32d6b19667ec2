"""From crops to what the encoders see: photometric augmentation and roles."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from clim_jax import rng, sharding
from clim_jax.augment.apply import augment
from clim_jax.augment.policy import Policy
from clim_jax.method.batch import Batch


class View(NamedTuple):
  """One crop an image and the draws that augment it.

  A view that is both query and key (symmetric loss) looks the same in both.
  """

  images: jax.Array  # [b, S, S, 3] uint8
  rngs: jax.Array  # PRNG keys, [b]

  def pixels(self, policy: Policy) -> jax.Array:
    """[b, S, S, 3] float32 in [0, 1]."""
    return augment(self.rngs, self.images, policy)


class Role(NamedTuple):
  """One direction of the contrast: which views are queries and which is the key."""

  queries: tuple[View, ...]  # of the anchors, largest first
  key: View  # of the anchors, in the other order of rows
  positives: tuple[View, ...]  # of the positives, to be mixed into `queries`
  positive_key: View | None
  key_row: jax.Array  # for each query row, the global row of its key, [b] int32
  has_positive: jax.Array  # in the order of the queries, [b] bool


def make_roles(batch: Batch, step_rng: jax.Array, *, symmetric: bool) -> list[Role]:
  """Query against key, and with `symmetric` also the largest query as the key."""
  rows = sharding.row_offset(batch.key.shape[0]) + jnp.arange(batch.key.shape[0])

  def view(name: str, images: jax.Array) -> View:
    return View(images, rng.per_row(rng.stream(step_rng, name), rows))

  queries = tuple(view(f"query{i}", x) for i, x in enumerate(batch.query))
  positives = tuple(view(f"positive{i}", x) for i, x in enumerate(batch.positive_query))
  key, positive_key = view("key", batch.key), None
  if batch.positive_key is not None:
    positive_key = view("positive_key", batch.positive_key)
  roles = [
    Role(queries, key, positives, positive_key, batch.key_row, batch.has_positive)
  ]
  if symmetric:
    swapped = Role(
      queries=(key,),
      key=queries[0],
      positives=(positive_key,) if positives else (),
      positive_key=positives[0] if positives else None,
      key_row=batch.query_row,
      has_positive=gather(batch.has_positive)[batch.query_row],
    )
    roles.append(swapped)
  return roles


def gather(rows: jax.Array) -> jax.Array:
  """This replica's rows, [b, ...], to those of all replicas, [B, ...]."""
  return jax.lax.all_gather(rows, sharding.AXIS, tiled=True, to="invarying")
