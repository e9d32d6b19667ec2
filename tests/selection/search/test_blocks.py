import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clim_jax.selection.search.blocks import map_row_blocks


@pytest.mark.parametrize("block", [1, 4, 10, 11, 100])
@pytest.mark.parametrize("total", [1, 10])
def test_blocks_give_what_all_rows_at_once_give(total, block):
  x = np.arange(total * 6, dtype=np.float32).reshape(total, 2, 3)
  ids = np.arange(total)

  def function(rows):
    x, ids = rows
    return {"product": x * ids[:, None, None], "sum": x.sum(axis=(1, 2))}

  out = map_row_blocks(function, (jnp.asarray(x), jnp.asarray(ids)), block)
  np.testing.assert_array_equal(out["product"], x * ids[:, None, None])
  np.testing.assert_array_equal(out["sum"], x.sum(axis=(1, 2)))


@pytest.mark.parametrize(("block", "seen"), [(4, 4), (100, 10)])
def test_no_more_rows_than_a_block_exist_at_once(block, seen):
  shapes = []

  def function(rows):
    shapes.append(rows.shape)
    return rows

  jax.eval_shape(lambda x: map_row_blocks(function, x, block), jnp.zeros((10, 3)))
  assert set(shapes) == {(seen, 3)}


def test_a_bank_is_not_copied_to_fill_its_last_block():
  bank = jnp.zeros((10_001, 64))
  mapped = jax.jit(lambda x: map_row_blocks(lambda rows: rows.sum(axis=1), x, 1000))
  memory = mapped.lower(bank).compile().memory_analysis()
  assert memory.temp_size_in_bytes < bank.nbytes / 5
