"""A small run as a process of its own, and what it has left."""

import collections
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from tensorboard.backend.event_processing.plugin_event_accumulator import (
  EventAccumulator,
)

from benchmarks.fault_families.family import ROOT

# Four epochs of eleven steps: each begins with a selection and ends with a checkpoint.
OPTIONS = {
  "epochs": 4,
  "batch_size": 128,
  "model.width": 2,
  "model.hidden_dim": 8,
  "model.embedding_dim": 4,
  "moco.queue_size": 256,
  "selection.num_neighbours": 6,
  "selection.num_centers": 8,
  "selection.kmeans_iterations": 2,
  "selection.warmup_epochs": 0,
  "selection.refresh_epochs": 1,
  "checkpoint.every_epochs": 1,
  "log.every_steps": 1,
  "report.at_end": False,
  "evaluation.protocols": "knn",
  "evaluation.references": "",
  "evaluation.knn.neighbours": 5,
}
STEPS = 44
# Figures of a record that are not arithmetic.
_TIMES = ("seconds", "share_of_epoch", "per_second", "per_device", "wait_fraction")


def arguments(workdir: pathlib.Path, **changes: Any) -> list[str]:
  """Of the command line; in the name of a changed option "__" stands for the dot."""
  values = OPTIONS | {key.replace("__", "."): value for key, value in changes.items()}
  return [
    "--config=smoke",
    f"--workdir={workdir}",
    *(f"--config.{key}={value}" for key, value in values.items()),
  ]


def start(
  workdir: pathlib.Path,
  *more: str,
  devices: int = 1,
  log: pathlib.Path | None = None,
  preexec: Any = None,
  **changes: Any,
) -> subprocess.Popen:
  """A session of the run in `workdir`; what it says is in `log`, or WORKDIR.log.

  Args:
    workdir: of the run.
    more: further flags.
    devices: how many the CPU is taken for.
    log: where it writes what it says; WORKDIR.log if None.
    preexec: called in the process before it begins.
    changes: of the small run's options.
  """
  environment = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
  environment["XLA_FLAGS"] = xla_flags(devices)
  environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  with (log or log_of(workdir)).open("a") as out:
    return subprocess.Popen(
      [sys.executable, "main.py", *arguments(workdir, **changes), *more],
      cwd=ROOT,
      env=os.environ | environment,
      stdout=out,
      stderr=subprocess.STDOUT,
      preexec_fn=preexec,
    )


def xla_flags(devices: int) -> str:
  """So many devices of a CPU, which may wait long for each other where it is busy."""
  return (
    f"--xla_force_host_platform_device_count={devices} "
    "--xla_cpu_collective_call_terminate_timeout_seconds=3600"
  )


def log_of(workdir: pathlib.Path) -> pathlib.Path:
  return workdir.with_name(f"{workdir.name}.log")


def said(workdir: pathlib.Path) -> str:
  return log_of(workdir).read_text(errors="replace")


def end(child: subprocess.Popen) -> None:
  """Ends it, whatever it does."""
  child.kill()
  child.wait()


def newest_step(workdir: pathlib.Path) -> int:
  """Of the whole checkpoints; 0 if there is none."""
  steps = (path.name for path in (workdir / "checkpoints").glob("*"))
  return max((int(name) for name in steps if name.isdigit()), default=0)


def arrays(workdir: pathlib.Path, step: int | None = None) -> list[np.ndarray]:
  """All that a checkpoint holds, by orbax alone: encoders, optimiser, queue, table."""
  folder = workdir / "checkpoints" / str(step or newest_step(workdir))
  items = sorted(path for path in folder.iterdir() if path.is_dir())
  return [array for path in items for array in jax.tree.leaves(_read(path))]


def _read(path: pathlib.Path) -> Any:
  """The tree of NumPy arrays in a folder of orbax's, however many devices wrote it."""
  reader = ocp.PyTreeCheckpointer()
  how = jax.tree.map(
    lambda _: ocp.RestoreArgs(restore_type=np.ndarray),
    reader.metadata(path).item_metadata.tree,
  )
  return reader.restore(path, restore_args=how)


def records(workdir: pathlib.Path) -> list[dict[str, Any]]:
  return [json.loads(line) for line in (workdir / "metrics.jsonl").open()]


def event_steps(workdir: pathlib.Path) -> list[int]:
  """Steps that TensorBoard shows a loss of."""
  events = EventAccumulator(str(workdir), size_guidance={"tensors": 0}).Reload()
  return [event.step for event in events.Tensors("loss")]


def differences(workdir: pathlib.Path, whole: pathlib.Path) -> str:
  """What a run has not that one which nothing happened to has; "" if nothing."""
  found = []
  if newest_step(workdir) != newest_step(whole):
    return f"ended at step {newest_step(workdir)} of {newest_step(whole)}"
  ours, theirs = arrays(workdir), arrays(whole)
  if len(ours) != len(theirs) or not all(map(np.array_equal, ours, theirs)):
    found.append("the last checkpoint differs")
  for what, read in (
    ("lines of metrics.jsonl", lambda path: [r["step"] for r in records(path)]),
    ("events", event_steps),
  ):
    here, there = (collections.Counter(read(path)) for path in (workdir, whole))
    if here != there:
      missing, more = sorted(there - here), sorted(here - there)
      found.append(f"{what}: missing {missing[:5]}, too many {more[:5]}")
  for here, there in zip(records(workdir), records(whole), strict=False):
    # Figures of a selection come back with the next one.
    names = [name for name in here.keys() & there.keys() if not name.endswith(_TIMES)]
    names = [name for name in names if name not in ("mfu", "tflops_per_device")]
    differ = [name for name in names if here[name] != there[name]]
    if differ:
      found.append(f"step {here['step']}: other {', '.join(sorted(differ)[:3])}")
      break
  return "; ".join(found)
