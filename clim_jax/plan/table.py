"""A forecast as a table."""

import datetime
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from clim_jax.plan.forecast import Forecast, Seconds
from clim_jax.plan.memory import Memory
from clim_jax.plan.schedule import Schedule

_CLASSES = 5  # named in the table; plan.json has all
_DAY = 86_400


def print_table(forecast: Forecast, console: Console) -> None:
  """Rows with what is known."""
  table = Table(box=box.SIMPLE_HEAD, show_header=False, title_justify="left")
  table.title = f"plan of {forecast.config}"
  table.add_column(style="bold", no_wrap=True)
  table.add_column()
  for what, figure in _rows(forecast):
    table.add_row(what, figure)
  console.print(table)


def _rows(forecast: Forecast) -> Iterator[tuple[str, str]]:
  hardware, schedule, memory = forecast.hardware, forecast.schedule, forecast.memory
  seconds, disk, images = forecast.seconds, forecast.disk, forecast.images
  yield "planned for", hardware.target or hardware.devices
  test = f", {images.test:,} to test on" if images.test else ""
  yield "images", f"{images.train:,} to train on{test}"
  if images.classes:
    yield "classes", _classes(images.classes)
  flop = " and ".join(
    f"{flop / 1e9:,.3g} GFLOP a {kind} step"
    for kind, flop in forecast.flop_per_step.items()
  )
  yield "network", f"{forecast.parameters:,} parameters; {flop}"
  yield "schedule", _schedule(schedule)
  if memory is not None:
    yield from _memory_rows(forecast, memory)
  if seconds is not None:
    yield from _time_rows(forecast, seconds)
  rate = f"{images.per_second:,.0f} images/s by this machine"
  if images.per_second:
    yield "input", rate
  free = f", {decimal(disk.free)} free" if disk.free is not None else ""
  yield (
    "checkpoints",
    f"{decimal(disk.checkpoint)} each, at most {schedule.saves_kept} at once: "
    f"{decimal(disk.kept)}{free}",
  )
  if seconds is not None:
    yield "time to train", _total(seconds)
  if forecast.price is not None:
    least = "" if seconds.measured else "at least "
    yield (
      "price",
      f"{least}{forecast.price:,.2f} at {forecast.price_per_hour:g} an hour",
    )


def _classes(classes: dict[str, int]) -> str:
  counts = sorted(classes.items(), key=lambda item: -item[1])
  named = ", ".join(f"{name}: {count:,}" for name, count in counts[:_CLASSES])
  rest = ", …" if len(counts) > _CLASSES else ""
  least, most = counts[-1][1], counts[0][1]
  return f"{len(counts)}, of {least:,} to {most:,} images ({named}{rest})"


def _schedule(schedule: Schedule) -> str:
  left = schedule.images_left_over
  over = f"; {left} images of an epoch fill no batch" if left else ""
  return (
    f"{schedule.epochs} epochs of {schedule.steps_per_epoch:,} steps: "
    f"{schedule.plain_steps:,} plain, {schedule.mixed_steps:,} mixed with similar "
    f"images{over}"
  )


def _memory_rows(forecast: Forecast, memory: Memory) -> Iterator[tuple[str, str]]:
  hardware = forecast.hardware
  has = f" of {decimal(hardware.memory)}" if hardware.memory else ""
  yield (
    "memory a device",
    f"{decimal(memory.peak)}{has}: encoders {decimal(memory.encoders)}, optimizer "
    f"{decimal(memory.optimizer)}, queue {decimal(memory.queue)}, activations "
    f"{decimal(memory.activations)}; bank {decimal(memory.bank)}, selection "
    f"{decimal(memory.selection)}",
  )
  if forecast.process_bytes is not None:
    yield "memory of process", decimal(forecast.process_bytes)


def _time_rows(forecast: Forecast, seconds: Seconds) -> Iterator[tuple[str, str]]:
  least = "" if seconds.measured else "at least "
  kinds = {"plain": seconds.plain_step, "mixed": seconds.mixed_step}
  steps = " and ".join(
    f"{step:.3g} s {kind}" for kind, step in kinds.items() if step is not None
  )
  waiting = f"; {seconds.waiting:.0%} of it is waiting for images"
  yield "a step", f"{least}{steps}{waiting if seconds.measured else ''}"
  if forecast.schedule.selections:
    share = seconds.selections / seconds.total
    yield (
      "a selection",
      f"{least}{seconds.selection:.3g} s, {forecast.schedule.selections} times: "
      f"{share:.0%} of the time",
    )


def _total(seconds: Seconds) -> str:
  least = "" if seconds.measured else "at least "
  parts = {
    "starting": seconds.starting,
    "steps": seconds.steps,
    "selections": seconds.selections,
    "saving": seconds.saves,
  }
  told = ", ".join(f"{what} {_duration(s)}" for what, s in parts.items() if s)
  after = "; then the evaluation"
  if seconds.evaluation:
    after += f": {_duration(seconds.evaluation)} for features, and its probes"
  return f"{least}{_duration(seconds.total)}: {told}{after}"


def _duration(seconds: float) -> str:
  if seconds < 60:
    return f"{seconds:.2g} s"
  if seconds < _DAY:
    return str(datetime.timedelta(seconds=round(seconds)))
  return f"{seconds / _DAY:.1f} days"
