"""Hits of a tile by one Pallas kernel for TPU: the similarities are never stored.

XLA writes a tile's similarities to memory because both sides read them. Where hits are
computed anew in float32 anyway, only their bits need to leave the chip: a sixteenth of
the bytes.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from clim_jax.selection.search.tile_pairs import WORD

_SIDE = 512  # rows and columns of a block; its similarities take 1 MiB
_DEPTH = 512  # features multiplied at once


def hit_words(
  rows: jax.Array, columns: jax.Array, row_bound: jax.Array, column_bound: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """`hits.row_hits` and `hits.column_hits` of the product of bfloat16 rows.

  Elsewhere than on a TPU the kernel is interpreted: for tests, not for use.

  Args:
    rows: [R, D] bfloat16, R a multiple of 32.
    columns: [C, D] bfloat16, likewise.
    row_bound: [R] float32.
    column_bound: [C] float32.

  Returns:
    Words of the rows' hits, [C / 32, R] uint32, and of the columns', [R / 32, C].
  """
  count, others = rows.shape[0], columns.shape[0]
  of_rows, of_columns = lax.platform_dependent(
    *_whole_blocks(rows, row_bound),
    *_whole_blocks(columns, column_bound),
    tpu=functools.partial(_call, interpret=False),
    default=functools.partial(_call, interpret=True),
  )
  return of_rows[: others // WORD, :count], of_columns[: count // WORD, :others]


def _whole_blocks(rows: jax.Array, bound: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Rows filled up with zeros, and bounds [1, R] with what no similarity reaches."""
  count, dim = rows.shape
  more, deeper = -count % _SIDE, -dim % min(dim, _DEPTH)
  rows = jnp.pad(rows, ((0, more), (0, deeper)))
  return rows, jnp.pad(bound, (0, more), constant_values=jnp.inf)[None]


def _call(
  rows: jax.Array,
  row_bound: jax.Array,
  columns: jax.Array,
  column_bound: jax.Array,
  *,
  interpret: bool,
) -> tuple[jax.Array, jax.Array]:
  (num_rows, dim), num_columns = rows.shape, columns.shape[0]
  depth = min(dim, _DEPTH)
  varies = jax.typeof(rows).manual_axis_type

  def words(groups: int, lanes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((groups, lanes), jnp.int32, manual_axis_type=varies)

  out = pl.pallas_call(
    _kernel,
    grid=(num_rows // _SIDE, num_columns // _SIDE, dim // depth),
    in_specs=[
      pl.BlockSpec((_SIDE, depth), lambda row, column, step: (row, step)),
      pl.BlockSpec((1, _SIDE), lambda row, column, step: (0, row)),
      pl.BlockSpec((_SIDE, depth), lambda row, column, step: (column, step)),
      pl.BlockSpec((1, _SIDE), lambda row, column, step: (0, column)),
    ],
    out_specs=[
      pl.BlockSpec((_SIDE // WORD, _SIDE), lambda row, column, step: (column, row)),
      pl.BlockSpec((_SIDE // WORD, _SIDE), lambda row, column, step: (row, column)),
    ],
    out_shape=[
      words(num_columns // WORD, num_rows),
      words(num_rows // WORD, num_columns),
    ],
    scratch_shapes=[pltpu.VMEM((_SIDE, _SIDE), jnp.float32)],
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "parallel", "arbitrary")
    ),
    interpret=interpret,
    name="hit_words",
  )(rows, row_bound, columns, column_bound)
  return tuple(lax.bitcast_convert_type(x, jnp.uint32) for x in out)


def _kernel(
  rows: jax.Ref,
  row_bound: jax.Ref,
  columns: jax.Ref,
  column_bound: jax.Ref,
  of_rows: jax.Ref,
  of_columns: jax.Ref,
  similarity: jax.Ref,
) -> None:
  """One block: adds up its product over the features, then packs both sides' hits."""
  step = pl.program_id(2)
  product = lax.dot_general(
    rows[...],
    columns[...],
    (((1,), (1,)), ((), ())),
    preferred_element_type=jnp.float32,
  )

  @pl.when(step == 0)
  def _() -> None:
    similarity[...] = product

  @pl.when(step > 0)
  def _() -> None:
    similarity[...] += product

  @pl.when(step == pl.num_programs(2) - 1)
  def _() -> None:
    of_columns[...] = _pack(similarity[...] >= column_bound[...])
    of_rows[...] = _pack(row_bound[...] <= similarity[...].T)


def _pack(hit: jax.Array) -> jax.Array:
  """Bits along the first axis as words, [G, R] bool → [G / 32, R] int32."""
  groups, rows = hit.shape
  shape = (groups // WORD, WORD, rows)
  bit = jnp.left_shift(jnp.int32(1), lax.broadcasted_iota(jnp.int32, shape, 1))
  return jnp.where(hit.reshape(shape), bit, 0).sum(axis=1, dtype=jnp.int32)
