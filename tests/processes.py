"""Processes of one job, started, awaited and ended together."""

import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable

ROOT = pathlib.Path(__file__).parent.parent
_SECONDS = 240  # below the time-out of a test, so that none outlives it


def run_together(
  arguments: Callable[[int, int], list[object]], *, processes: int, devices: int
) -> None:
  """Runs Python with `arguments(port, process)` in each process, in the root.

  Args:
    arguments: of one process; the port is their coordinator's.
    processes: how many.
    devices: of each, on a CPU.

  Raises:
    AssertionError: one failed or took too long; the others are ended.
  """
  flags = f"--xla_force_host_platform_device_count={devices}"
  environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}
  # Bound but not listening: nobody else gets the port, the coordinator shares it.
  with socket.socket() as held:
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("", 0))
    port = held.getsockname()[1]
    started = []
    try:
      for process in range(processes):
        command = [sys.executable, *map(str, arguments(port, process))]
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment))
      _wait(started, time.monotonic() + _SECONDS)
    finally:
      for child in started:
        child.kill()
        child.wait()


def _wait(children: list[subprocess.Popen], deadline: float) -> None:
  while not all(child.poll() == 0 for child in children):
    codes = [child.poll() for child in children]
    assert not any(codes), f"exit codes {codes}; None: still running"
    assert time.monotonic() < deadline, f"exit codes {codes} after {_SECONDS} s"
    time.sleep(0.05)
