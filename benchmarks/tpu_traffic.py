"""Bytes that a compiled TPU program moves to and from HBM, read from its text.

The compiler's own count holds whatever an operation reads, also from on-chip memory,
and the body of a loop once. Here are the operands and results that lie in HBM, with
their tiles padded, as often as they are read and written. An operation that reads a
part of an operand counts as reading it all.
"""

import functools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_SHAPE = re.compile(r"\b([a-z]+\d+|pred)\[([\d,]*)\](?:\{([\d,]*)(:[^}]*)?\})?")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%(\S+) = (.*?) ([\w\-]+)\((.*)")
_COMPUTATION = re.compile(r"^(ENTRY )?%(\S+) \(.*\) -> .* \{$", re.MULTILINE)
# They name memory, and move nothing; of a copy, the end is counted and not the start.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"}


class Instruction(NamedTuple):
  name: str
  shapes: str
  opcode: str
  rest: str  # operands and attributes


class Program(NamedTuple):
  entry: str
  computations: dict[str, list[Instruction]]


def hbm_bytes(text: str, *, scope: str = "") -> int:
  """Of one device, a run of the program.

  Args:
    text: `as_text()` of a compiled program.
    scope: counts only what has this in its JAX name, as of a `jax.named_scope`.
  """
  program = _parse(text)
  return _moved(program, program.entry, scope)


def _parse(text: str) -> Program:
  computations, entry = {}, ""
  marks = list(_COMPUTATION.finditer(text))
  for mark in marks:
    body = text[mark.end() : text.index("\n}", mark.end())]
    computations[mark[2]] = [
      Instruction(*found.groups()) for found in _INSTRUCTION.finditer(body)
    ]
    entry = mark[2] if mark[1] else entry
  return Program(entry, computations)


def _moved(program: Program, computation: str, scope: str) -> int:
  instructions = program.computations[computation]
  sizes = {each.name: _hbm_size(each.shapes) for each in instructions}
  total = 0
  for each in instructions:
    if each.opcode in _FREE or each.opcode.endswith("-start"):
      continue
    within = list(_loops(program, each))
    total += sum(times * _moved(program, body, scope) for times, body in within)
    if within or scope not in _jax_name(each):
      continue
    if each.opcode.endswith("-done"):  # between HBM and the chip, whichever way
      total += sum(map(_padded_size, _SHAPE.finditer(each.shapes)))
    else:
      operands = re.findall(r"%([\w.\-]+)", each.rest.split("), ")[0])
      total += sizes[each.name] + sum(sizes.get(name, 0) for name in operands)
  return total


def _loops(program: Program, each: Instruction) -> Iterator[tuple[int, str]]:
  """Computations that an instruction runs from HBM to HBM, and how often."""
  if each.opcode == "while":
    body, condition = (
      re.search(rf"{part}=%([\w.\-]+)", each.rest)[1] for part in ("body", "condition")
    )
    yield _trips(program, condition), body
  elif each.opcode == "conditional":
    for branches in re.findall(r"(?:computations=\{([^}]*)\})", each.rest):
      yield from ((1, name) for name in re.findall(r"%([\w.\-]+)", branches))
  elif each.opcode == "call":
    yield 1, re.search(r"to_apply=%([\w.\-]+)", each.rest)[1]


def _trips(program: Program, condition: str) -> int:
  """What a loop counts to; once if it is not a loop that counts."""
  counts = [
    int(each.rest.split(")")[0])
    for each in program.computations[condition]
    if each.opcode == "constant" and each.shapes.startswith("s32[]")
  ]
  return counts[0] if len(counts) == 1 else 1


def _jax_name(each: Instruction) -> str:
  found = re.search(r'op_name="([^"]*)"', each.rest)
  return found[1] if found else ""


def _hbm_size(shapes: str) -> int:
  """Bytes of the arrays of a shape, or of a tuple of them, that lie in HBM."""
  return sum(
    _padded_size(found)
    for found in _SHAPE.finditer(shapes)
    if "S(" not in (found[4] or "")  # a memory space; HBM is the one not told
  )


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
