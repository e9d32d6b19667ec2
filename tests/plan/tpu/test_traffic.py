"""Bytes to and from HBM, of programs written by hand."""

import jax
import jax.numpy as jnp
import pytest

from clim_jax.plan.tpu import chips
from clim_jax.plan.tpu.traffic import estimated_cycles, hbm_bytes

_ROWS = 8 * 128 * 4  # bytes of f32[8,128]

_LOOP = """%body (t: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %t = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %x = f32[8,128]{1,0:T(8,128)} get-tuple-element(%t), index=1
  %y = f32[8,128]{1,0:T(8,128)} negate(%x), backend_config={"estimated_cycles":"70"}
  ROOT %r = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%i, %y)
}

%condition (t: (s32[], f32[8,128])) -> pred[] {
  %n = s32[]{:T(128)} constant(3)
  ROOT %lt = pred[]{:T(512)} compare(%i, %n), direction=LT
}

"""


def _program(*lines, before=""):
  body = "\n".join(f"  {line}" for line in lines)
  return (
    f"HloModule m\n\n{before}ENTRY %main (p: f32[8,128]) -> f32[8,128] {{\n{body}\n}}\n"
  )


def test_operands_and_results_in_hbm_are_counted():
  text = _program(
    "%p = f32[8,128]{1,0:T(8,128)} parameter(0)",
    "%q = f32[8,128]{1,0:T(8,128)} parameter(1)",
    '%a = f32[8,128]{1,0:T(8,128)} add(%p, %q), metadata={op_name="x"}',
    "ROOT %b = f32[8,128]{1,0:T(8,128)} multiply(%a, %a)",
  )
  assert hbm_bytes(text) == 3 * _ROWS + 3 * _ROWS


def test_on_chip_memory_is_not():
  text = _program(
    "%p = f32[8,128]{1,0:T(8,128)} parameter(0)",
    "%a = f32[8,128]{1,0:T(8,128)S(1)} negate(%p)",
    "ROOT %b = f32[8,128]{1,0:T(8,128)S(1)} negate(%a)",
  )
  assert hbm_bytes(text) == _ROWS


def test_a_copy_between_them_is_counted_once():
  text = _program(
    "%p = f32[8,128]{1,0:T(8,128)} parameter(0)",
    "%s = (f32[8,128]{1,0:T(8,128)S(1)}, f32[8,128]{1,0:T(8,128)}, u32[]{:S(2)}) "
    "copy-start(%p)",
    "ROOT %d = f32[8,128]{1,0:T(8,128)S(1)} copy-done(%s)",
  )
  assert hbm_bytes(text) == _ROWS


@pytest.mark.parametrize(
  ("shape", "size"),
  [
    ("bf16[8,64]{1,0:T(8,128)(2,1)}", 8 * 128 * 2),
    ("bf16[8,64]{0,1:T(8,128)(2,1)}", 64 * 128 * 2),  # the first dimension is minor
    ("u8[4,224,3]{1,2,0:T(32,128)(4,1)}", 4 * 256 * 32),
    ("pred[100]{0:T(512)(128)(4,1)}", 512),
    ("s32[]", 4),
    ("(f32[8,128]{1,0:T(8,128)}, f32[8,128]{1,0:T(8,128)S(1)})", _ROWS),
  ],
)
def test_tiles_are_padded(shape, size):
  assert hbm_bytes(_program(f"ROOT %a = {shape} custom-call()")) == size


def test_the_body_of_a_loop_counts_as_often_as_it_runs():
  text = _program(
    "%p = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)",
    "ROOT %w = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) while(%p), "
    "condition=%condition, body=%body",
    before=_LOOP,
  )
  assert hbm_bytes(text) == 3 * 2 * _ROWS
  assert estimated_cycles(text) == 3 * 70


_SLICING = """%slicing (a: f32[64,128], i: s32[]) -> f32[8,128] {
  %a = f32[64,128]{1,0:T(8,128)} parameter(0)
  %i = s32[]{:T(128)S(6)} parameter(1)
  %b = f32[8,8,128]{2,1,0:T(8,128)} bitcast(%a)
  ROOT %s = f32[8,128]{1,0:T(8,128)} dynamic-slice(%b, %i), dynamic_slice_sizes={8,128}
}

%updating (a: f32[64,128], u: f32[8,128], i: s32[]) -> f32[64,128] {
  %a = f32[64,128]{1,0:T(8,128)} parameter(0)
  %u = f32[8,128]{1,0:T(8,128)S(1)} parameter(1)
  %i = s32[]{:T(128)S(6)} parameter(2)
  %n = f32[8,128]{1,0:T(8,128)} negate(%u)
  ROOT %d = f32[64,128]{1,0:T(8,128)} dynamic-update-slice(%a, %n, %i)
}

"""


def test_of_an_array_that_is_sliced_or_updated_the_slice_counts():
  sliced = _program(
    "%p = f32[64,128]{1,0:T(8,128)} parameter(0)",
    "%i = s32[]{:T(128)S(6)} parameter(1)",
    "%s = f32[8,128]{1,0:T(8,128)} slice(%p), slice={[0:8], [0:128]}",
    "ROOT %f = f32[8,128]{1,0:T(8,128)} fusion(%p, %i), kind=kLoop, calls=%slicing",
    before=_SLICING,
  )
  assert hbm_bytes(sliced) == 4 * _ROWS
  updated = _program(
    "%p = f32[64,128]{1,0:T(8,128)} parameter(0)",
    "%u = f32[8,128]{1,0:T(8,128)S(1)} parameter(1)",
    "%i = s32[]{:T(128)S(6)} parameter(2)",
    "ROOT %f = f32[64,128]{1,0:T(8,128)} fusion(%p, %u, %i), kind=kLoop, "
    "calls=%updating",
    before=_SLICING,
  )
  assert hbm_bytes(updated) == _ROWS


def test_of_results_updated_in_place_the_updates_count():
  both = _SLICING.replace(
    "  ROOT %d = f32[64,128]{1,0:T(8,128)} dynamic-update-slice(%a, %n, %i)",
    "  %d = f32[64,128]{1,0:T(8,128)} dynamic-update-slice(%a, %n, %i)\n"
    "  %e = f32[8,8,128]{2,1,0:T(8,128)} bitcast(%d)\n"
    "  ROOT %t = (f32[8,8,128]{2,1,0:T(8,128)}, f32[8,128]{1,0:T(8,128)}) "
    "tuple(%e, %n)",
  )
  text = _program(
    "%p = f32[64,128]{1,0:T(8,128)} parameter(0)",
    "%u = f32[8,128]{1,0:T(8,128)S(1)} parameter(1)",
    "%i = s32[]{:T(128)S(6)} parameter(2)",
    "ROOT %f = (f32[8,8,128]{2,1,0:T(8,128)}, f32[8,128]{1,0:T(8,128)}) "
    "fusion(%p, %u, %i), kind=kLoop, calls=%updating",
    before=both,
  )
  assert hbm_bytes(text) == 2 * _ROWS


def test_an_array_that_is_sliced_and_read_whole_counts_whole():
  text = _program(
    "%p = f32[64,128]{1,0:T(8,128)} parameter(0)",
    "%i = s32[]{:T(128)S(6)} parameter(1)",
    "ROOT %f = f32[8,128]{1,0:T(8,128)} fusion(%p, %i), kind=kLoop, calls=%slicing",
    before=_SLICING.replace("ROOT %s", "%x = f32[64,128] negate(%a)\n  ROOT %s"),
  )
  assert hbm_bytes(text) == (8 + 1) * _ROWS


def test_an_allocation_moves_nothing():
  text = _program(
    "ROOT %a = f32[8,128]{1,0:T(8,128)} custom-call(), "
    'custom_call_target="AllocateBuffer"'
  )
  assert hbm_bytes(text) == 0


def test_a_scope_is_counted_alone():
  text = _program(
    "%p = f32[8,128]{1,0:T(8,128)} parameter(0)",
    "%a = f32[8,128]{1,0:T(8,128)} negate(%p), "
    'metadata={op_name="jit(f)/augment/neg"}, backend_config={"estimated_cycles":"40"}',
    '%b = f32[8,128]{1,0:T(8,128)} add(%a, %p), metadata={op_name="jit(f)/add"}, '
    'backend_config={"estimated_cycles":"7"}',
    "ROOT %c = f32[8,128]{1,0:T(8,128)} negate(%b)",
  )
  assert hbm_bytes(text, scope="augment") == 2 * _ROWS
  assert estimated_cycles(text, scope="augment") == 40
  assert estimated_cycles(text) == 40 + 7
  assert hbm_bytes(text) == (2 + 3 + 2) * _ROWS


@pytest.mark.usefixtures("no_kept_programs")
def test_a_compiled_product_reads_and_writes_its_matrices():
  pytest.importorskip("libtpu", reason="libtpu is for Linux on x86-64 only")
  mesh = chips.topology_mesh("v5e:2x2")
  whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  # 1 GiB each: they cannot stay on the chip.
  matrix = jax.ShapeDtypeStruct((16384, 16384), jnp.float32, sharding=whole)
  compiled = jax.jit(lambda a, b: a @ b).lower(matrix, matrix).compile()
  assert 3 * 2**30 <= hbm_bytes(compiled.as_text()) <= 4 * 2**30
