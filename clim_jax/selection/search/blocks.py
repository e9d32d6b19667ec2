"""Work on rows a block at a time, so that no [N, anything wide] array exists."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def map_row_blocks(function: Callable[..., Any], rows: Any, block: int) -> Any:
  """Applies `function` to blocks of `block` rows in turn.

  The last block begins earlier to be whole: a bank that is padded would exist twice.

  Args:
    function: takes a tree like `rows` with `block` rows each (all of them if there are
      fewer), returns a tree of arrays with as many rows, each of its own row alone.
    rows: a tree of arrays, [N, ...].
    block: rows at once.

  Returns:
    The results, [N, ...].
  """
  total = jax.tree.leaves(rows)[0].shape[0]
  block = min(block, total)
  count = -(-total // block)
  again = count * block - total  # rows that the last block shares with the one before

  def of_block(number: jax.Array) -> Any:
    first = jnp.minimum(number * block, total - block)
    return function(
      jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, first, block), rows)
    )

  def joined(x: jax.Array) -> jax.Array:
    whole = x[:-1].reshape(-1, *x.shape[2:])
    return jnp.concatenate([whole, x[-1, again:]])

  return jax.tree.map(joined, lax.map(of_block, jnp.arange(count)))
