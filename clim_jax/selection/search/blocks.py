"""Work on rows a block at a time, so that no [N, anything wide] array exists."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def map_row_blocks(function: Callable[..., Any], rows: Any, block: int) -> Any:
  """Applies `function` to blocks of at most `block` rows in turn.

  Args:
    function: takes a tree like `rows` with `block` rows each, returns a tree of
      arrays with as many rows.
    rows: a tree of arrays, [N, ...].
    block: rows at once; the last block is filled up with zeros.

  Returns:
    The results, [N, ...].
  """
  total = jax.tree.leaves(rows)[0].shape[0]
  block = min(block, total)
  count = -(-total // block)

  def split(x: jax.Array) -> jax.Array:
    widths = [(0, count * block - total)] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, widths).reshape(count, block, *x.shape[1:])

  out = lax.map(function, jax.tree.map(split, rows))
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:total], out)
