"""What one train step is given."""

from typing import Any, NamedTuple

Array = Any  # NumPy on the host, jax.Array on the device


class Batch(NamedTuple):
  """One batch of crops; [B] counts anchors, images are uint8.

  The key crops come in an order of their own. Encoded as they come, each
  batch-normalisation group of the key encoder holds other images than the same
  group of the query encoder: MoCo's shuffled batch normalisation, without moving
  images between devices. `key_row` and `query_row` undo it on the embeddings.
  """

  query: tuple[Array, ...]  # anchors at every side, largest first, [B, S, S, 3]
  key: Array  # anchors, in key order, [B, S, S, 3]
  positive_query: tuple[Array, ...]  # their positives, as `query`; () if not needed
  positive_key: Array | None  # their positives, as `key`; None if not needed
  has_positive: Array  # whether selection left a positive, [B] bool
  key_row: Array  # global row of the key batch with this row's anchor, [B] int32
  query_row: Array  # global row of the query batch with this key row's, [B] int32
