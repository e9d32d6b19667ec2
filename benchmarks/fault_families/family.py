"""What every family of faults is given: a folder, its size, a place for its lines."""

import dataclasses
import json
import pathlib
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Family:
  """One family of a run of benchmarks/faults.py."""

  name: str
  lines: pathlib.Path  # one JSON object a trial
  scratch: pathlib.Path  # an empty folder
  quick: bool

  def sized(self, full: Any, quick: Any) -> Any:
    return quick if self.quick else full

  def report(self, trial: str, lost: str = "", **figures: Any) -> None:
    """Writes a line at once: what is tried later may end the process.

    Args:
      trial: what was done.
      lost: what is gone or went wrong by it; "" if the run survived.
      figures: what else is to be known.
    """
    line = {"trial": trial, "survived": not lost} | figures
    if lost:
      line["lost"] = lost
    with self.lines.open("a") as lines:
      lines.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)
