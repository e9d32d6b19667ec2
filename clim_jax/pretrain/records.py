"""metrics.jsonl as it is read: by whoever looks at a run, without what writes it."""

import json
from typing import NamedTuple

from etils import epath

Record = dict[str, float | int | None]  # as written: what is not finite is None


class Records(NamedTuple):
  """What a metrics.jsonl holds."""

  readable: list[Record]
  unreadable: int  # lines, such as the last one of a process that was killed


def read_records(path: epath.Path) -> Records:
  """The records of a file in their order; none if there is no such file."""
  text = path.read_bytes().decode(errors="replace") if path.exists() else ""
  lines = [line for line in text.splitlines() if line.strip()]
  parsed = [_parse(line) for line in lines]
  readable = [record for record in parsed if record is not None]
  return Records(readable, len(lines) - len(readable))


def _parse(line: str) -> Record | None:
  try:
    record = json.loads(line)
  except ValueError:
    return None
  is_record = isinstance(record, dict) and isinstance(record.get("step"), int)
  return record if is_record else None
