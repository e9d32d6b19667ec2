"""What a compiled TPU program moves to and from HBM, and how long that takes.

The compiler's own count of bytes holds whatever an operation reads, also from on-chip
memory, and the body of a loop once. Here are the operands and results that lie in HBM,
with their tiles padded, as often as they are read and written. Of an array that an
operation only slices, or updates in place, the slices count; a gather counts as reading
it all.
"""

import collections
import functools
import math
import re

from clim_jax.plan.tpu.hlo import Instruction, Operation, operations

_SHAPE = re.compile(r"\b([a-z]+\d+|pred)\[([\d,]*)\](?:\{([\d,]*)(:[^}]*)?\})?")
_SLICES, _UPDATE = {"slice", "dynamic-slice"}, "dynamic-update-slice"
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')


def hbm_bytes(text: str, *, scope: str = "") -> int:
  """Of one device, a run of the program; see `operations` for the arguments."""
  return sum(each.times * _moved(each) for each in operations(text, scope=scope))


def estimated_cycles(text: str, *, scope: str = "") -> int:
  """By the compiler's estimate of each operation; a Pallas kernel has none."""
  return sum(
    each.times * int(found[1])
    for each in operations(text, scope=scope)
    if (found := _CYCLES.search(each.instruction.rest))
  )


def _moved(operation: Operation) -> int:
  if operation.instruction.opcode.endswith("-done"):
    return _size(operation.instruction.shapes)  # between HBM and the chip
  users = collections.defaultdict(list)
  for each in operation.body:
    for name in each.operands:
      users[name].append(each)
  parameters = (each for each in operation.body if each.opcode == "parameter")
  named = {each.name: each for each in operation.body}
  return sum(_read(each, users) for each in parameters) + _written(
    operation.body[-1], named
  )


def _read(array: Instruction, users: dict[str, list[Instruction]]) -> int:
  """Bytes that are read of a parameter of a computation, or of a bitcast of one."""
  whole, read = _hbm_size(array.shapes), 0
  for user in users[array.name]:
    if user.opcode in _SLICES:
      read += _size(user.shapes)
    elif user.opcode == "bitcast":
      read += _read(user, users)
    elif user.opcode != _UPDATE or user.operands[0] != array.name:
      return whole
  return min(read, whole)


def _written(root: Instruction, named: dict[str, Instruction]) -> int:
  operands = [named[name] for name in root.operands if name in named]
  if root.opcode == "tuple":
    return sum(_written(each, named) for each in operands)
  if not _hbm_size(root.shapes):
    return 0
  if root.opcode == _UPDATE:
    return _size(operands[1].shapes)
  if root.opcode == "bitcast" and operands[0].opcode == _UPDATE:
    return _written(operands[0], named)
  return _hbm_size(root.shapes)


def _hbm_size(shapes: str) -> int:
  """Bytes of the arrays of a shape, or of a tuple of them, that lie in HBM."""
  return sum(
    _padded_size(found)
    for found in _SHAPE.finditer(shapes)
    if "S(" not in (found[4] or "")  # a memory space; HBM is the one not told
  )


def _size(shapes: str) -> int:
  """The same, wherever they lie."""
  return sum(map(_padded_size, _SHAPE.finditer(shapes)))


@functools.cache
def _item_bits(dtype: str) -> int:
  return 8 if dtype == "pred" else int(re.sub(r"\D", "", dtype))


def _padded_size(shape: re.Match[str]) -> int:
  """Bytes with the last dimensions rounded up to whole tiles."""
  sizes = [int(size) for size in shape[2].split(",") if size]
  order = [int(axis) for axis in (shape[3] or "").split(",") if axis]  # minor first
  tile = re.search(r":T\(([\d,]+)\)", shape[4] or "")
  if tile and order:
    edges = [int(edge) for edge in tile[1].split(",")]
    for axis, edge in zip(order, reversed(edges), strict=False):
      sizes[axis] = -(-sizes[axis] // edge) * edge
  return math.prod(sizes) * _item_bits(shape[1]) // 8
