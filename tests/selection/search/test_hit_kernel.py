import jax.numpy as jnp
import numpy as np
import pytest

from clim_jax.selection.search import hits
from clim_jax.selection.search.hit_kernel import hit_words


@pytest.mark.parametrize(
  ("rows", "columns", "dim"),
  [(512, 1024, 128), (32, 64, 24), (544, 96, 640), (1024, 512, 1536)],
  ids=["whole blocks", "less than a block", "filled up", "deep"],
)
def test_the_kernel_finds_the_hits_that_reading_the_product_finds(rows, columns, dim):
  # Small integers: their products are exact, so equality with the bound is met.
  rng = np.random.default_rng(0)
  x, y = (
    jnp.asarray(rng.integers(-2, 3, (n, dim)), jnp.bfloat16) for n in (rows, columns)
  )
  similarity = jnp.dot(x, y.T, preferred_element_type=jnp.float32)
  row_bound, column_bound = similarity[:, 7], similarity[5]
  of_rows, of_columns = hit_words(x, y, row_bound, column_bound)
  np.testing.assert_array_equal(of_rows, hits.row_hits(similarity, row_bound))
  np.testing.assert_array_equal(of_columns, hits.column_hits(similarity, column_bound))


def test_no_bound_lets_filling_become_a_hit():
  x = jnp.zeros((32, 8), jnp.bfloat16)
  anything = jnp.full(32, -jnp.inf)
  of_rows, of_columns = hit_words(x, x, anything, anything)
  assert of_rows.shape == of_columns.shape == (1, 32)
  assert (of_rows == hits.ALL).all()
  assert (of_columns == hits.ALL).all()
