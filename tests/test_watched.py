"""A process of several never dies without a word, nor outlives its parent."""

import os
import subprocess
import sys
import time

import pytest
from small_run import ROOT

PROGRAM = """
import os, signal, sys, time
from clim_jax.command_line.watched import watched
def work():
  print("child", os.getpid(), flush=True)
  {work}
watched(work)
"""


def start(work):
  return subprocess.Popen(
    [sys.executable, "-c", PROGRAM.format(work=work)],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


@pytest.mark.parametrize(
  ("work", "code", "told"),
  [
    ("pass", 0, ""),
    ("sys.exit(143)", 143, ""),
    ("sys.exit('error: as it says')", 1, "error: as it says\n"),
    ("os.abort()", 1, "error: this process was ended by SIGABRT: another process of"),
    ("os.kill(os.getpid(), 9)", 1, "error: this process was ended by SIGKILL"),
    ("1 / 0", 1, "Traceback"),
  ],
)
def test_it_ends_as_its_work_has_ended_and_says_why(work, code, told):
  child = start(work)
  _, said = child.communicate(timeout=60)
  assert child.returncode == code
  assert said.startswith(told)
  assert bool(said) == bool(told)


def test_a_failure_does_not_wait_for_the_other_processes():
  waits = "import atexit; atexit.register(time.sleep, 100); sys.exit('error: x')"
  child, started = start(waits), time.monotonic()
  child.communicate(timeout=60)
  assert child.returncode == 1
  assert time.monotonic() - started < 60


def test_a_signal_is_passed_on():
  work = "signal.signal(15, lambda *_: sys.exit(143)); print('set', flush=True)"
  child = start(f"{work}; time.sleep(100)")
  assert child.stdout.readline().startswith("child")
  assert child.stdout.readline() == "set\n"
  child.terminate()
  child.communicate(timeout=60)
  assert child.returncode == 143


def test_it_does_not_outlive_its_parent():
  parent = start("time.sleep(100)")
  child = int(parent.stdout.readline().split()[1])
  parent.kill()
  parent.communicate(timeout=60)
  deadline = time.monotonic() + 60
  while _runs(child):
    assert time.monotonic() < deadline
    time.sleep(0.05)


def _runs(pid):
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  with open(f"/proc/{pid}/stat") as stat:  # a child that nobody awaits stays as "Z"
    return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
