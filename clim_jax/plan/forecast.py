"""What is planned of a run, as `plan.json` has it, and whether it can be done."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from clim_jax.experiment.error import ConfigError
from clim_jax.plan.memory import Memory
from clim_jax.plan.schedule import Schedule

_GIB = 2**30


class CannotFit(ConfigError):
  """The run would end for want of memory or disk."""


@dataclasses.dataclass(frozen=True)
class Hardware:
  """What the run is planned for."""

  devices: str  # such as "CPU (2 devices)"
  count: int
  memory: int | None  # bytes that one has; a CPU's share the host's; None: unknown
  target: str = ""  # such as "tpu:v5e:2x4"; "": this machine


@dataclasses.dataclass(frozen=True)
class Images:
  """How many there are, and how fast this machine reads and crops them."""

  train: int
  test: int
  classes: dict[str, int]  # training images of each; {} without labels
  per_second: float  # anchors with all that their step needs; nothing else is going on


@dataclasses.dataclass(frozen=True)
class Seconds:
  """Of the run from its start to its last step; the evaluation comes after it."""

  measured: bool  # False: at least so many, by the roofline
  plain_step: float | None  # None: there is none of this kind
  mixed_step: float | None
  waiting: float  # share of the steps in which devices wait for images
  selection: float  # one
  starting: float  # compiling, and what else is done once
  steps: float  # all
  selections: float  # all
  saves: float  # all
  evaluation: float  # of encoding all labelled images; its probes come on top

  @property
  def total(self) -> float:
    return self.starting + self.steps + self.selections + self.saves


@dataclasses.dataclass(frozen=True)
class Disk:
  """Bytes of checkpoints."""

  checkpoint: int  # one
  kept: int  # of as many as ever lie there
  free: int | None  # None: not known, as of a bucket


@dataclasses.dataclass(frozen=True)
class Forecast:
  """Of a run that begins at its first step."""

  config: str
  hardware: Hardware
  images: Images
  parameters: int
  flop_per_step: dict[str, int]  # of all devices, "plain" and "mixed"
  schedule: Schedule
  memory: Memory | None  # None: the compiler has refused it
  process_bytes: int | None  # the most that the process held; None: nothing was run
  disk: Disk
  seconds: Seconds | None  # None: it would not fit, and nothing was run
  price_per_hour: float | None
  notes: list[str]
  warnings: list[str]
  faults: list[str]  # why it cannot fit

  @property
  def price(self) -> float | None:
    if self.price_per_hour is None or self.seconds is None:
      return None
    return self.price_per_hour * self.seconds.total / 3600

  def record(self) -> dict[str, Any]:
    """For plan.json."""
    record = dataclasses.asdict(self)
    record["schedule"]["steps"] = self.schedule.steps
    if self.memory is not None:
      record["memory"]["state"] = self.memory.state
    if self.seconds is not None:
      record["seconds"]["total"] = self.seconds.total
    record["price"], record["fits"] = self.price, not self.faults
    return record


def memory_fault(config: ConfigDict, needed: str, has: int) -> str:
  """One sentence with the mends, cheapest first."""
  parts = 2 * config.optimizer.accumulate_steps
  return (
    f"out of memory: the run needs {needed} and there are {has / _GIB:.1f} GiB; lower "
    f"batch_size={config.batch_size}, or set optimizer.accumulate_steps={parts} or "
    "model.recompute=True"
  )


def disk_faults(disk: Disk) -> list[str]:
  if disk.free is None or disk.kept <= disk.free:
    return []
  return [
    f"out of disk: checkpoints need {disk.kept / _GIB:.2f} GiB and "
    f"{disk.free / _GIB:.2f} GiB are free; lower checkpoint.keep or give another "
    "--workdir"
  ]
