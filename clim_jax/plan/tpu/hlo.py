"""A compiled TPU program's operations, read from its text."""

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%(\S+) = (.*?) ([\w\-]+)\((.*)")
_COMPUTATION = re.compile(r"^(ENTRY )?%(\S+) \(.*\) -> .* \{$", re.MULTILINE)
# They name memory, and do nothing; of a copy, the end is counted and not the start.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"}
_ALLOCATION = 'custom_call_target="AllocateBuffer"'


class Instruction(NamedTuple):
  name: str
  shapes: str
  opcode: str
  rest: str  # operands and attributes

  @property
  def jax_name(self) -> str:
    found = re.search(r'op_name="([^"]*)"', self.rest)
    return found[1] if found else ""

  @property
  def operands(self) -> list[str]:
    return re.findall(r"%([\w.\-]+)", self.rest.split("), ")[0])


class Operation(NamedTuple):
  """What runs, so many times, in one run of the program."""

  times: int
  instruction: Instruction
  body: list[Instruction]  # a computation: its parameters, and its root at the end


class Program(NamedTuple):
  entry: str
  computations: dict[str, list[Instruction]]


def operations(text: str, *, scope: str = "") -> Iterator[Operation]:
  """All of a program; loops and branches come as what they run.

  Args:
    text: `as_text()` of a compiled program.
    scope: leaves out what has not this in its JAX name, as of a `jax.named_scope`.
  """
  for operation in _operations(text):
    if scope in operation.instruction.jax_name:
      yield operation


@functools.lru_cache(maxsize=1)  # a step's text has tens of megabytes, read repeatedly
def _operations(text: str) -> list[Operation]:
  program = _parse(text)
  return list(_run(program, program.entry, 1))


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


def _run(program: Program, computation: str, times: int) -> Iterator[Operation]:
  instructions = program.computations[computation]
  shapes = {each.name: each.shapes for each in instructions}
  for each in instructions:
    if each.opcode in _FREE or each.opcode.endswith("-start"):
      continue
    if _ALLOCATION in each.rest:
      continue
    inner = list(_inner(program, each))
    for count, name in inner:
      yield from _run(program, name, times * count)
    if not inner:
      yield Operation(times, each, _body(program, each, shapes))


def _body(
  program: Program, each: Instruction, shapes: dict[str, str]
) -> list[Instruction]:
  """A fusion's computation; of another operation, one that does nothing else."""
  if each.opcode == "fusion":
    return program.computations[re.search(r"calls=%([\w.\-]+)", each.rest)[1]]
  parameters = [
    Instruction(name, shapes.get(name, ""), "parameter", "") for name in each.operands
  ]
  return [*parameters, each]


def _inner(program: Program, each: Instruction) -> Iterator[tuple[int, str]]:
  """Computations that an instruction runs, and how often."""
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
