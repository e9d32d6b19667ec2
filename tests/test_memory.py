"""Freed memory stays in the process, in processes of their own."""

import os
import subprocess
import sys

import pytest

from clim_jax import launch

# Pages fetched while arrays of an image's size, or larger than 32 MiB, are made and
# freed, ten times.
_PROGRAM = """
import resource, sys, threading
from clim_jax.memory import keep_freed_memory
if "keep" in sys.argv:
  of_programs = "programs" in sys.argv
  assert keep_freed_memory(of_programs=of_programs) == ("refuse" not in sys.argv)
def faults():
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def use():
  count, size = 8, 600_000
  if "much" in sys.argv:
    count = 150
  if "large" in sys.argv:
    count, size = 3, 50_000_000
  images = [bytearray(size) for _ in range(count)]
  for image in images:
    image[::4096] = bytes(len(image[::4096])).replace(b"\\0", b"x")
def use_often():
  use()
  before = faults()
  for _ in range(10):
    use()
  print(faults() - before)
if "thread" in sys.argv:  # which has a heap of its own
  use_often = threading.Thread(target=use_often).start
use_often()
"""


_SAYS = ("MALLOC_", "GLIBC_TUNABLES")  # how to allocate


def _faults(*arguments, **environment):
  clean = {k: v for k, v in os.environ.items() if not k.startswith(_SAYS)}
  command = [sys.executable, "-c", _PROGRAM, *arguments]
  answer = subprocess.run(
    command, env=clean | environment, check=True, capture_output=True, text=True
  )
  return int(answer.stdout)


# A thread's heap ends at 64 MiB, and then has a second one.
@pytest.mark.parametrize(
  "where",
  [("main",), ("thread",), ("thread", "much"), ("main", "large"), ("thread", "large")],
  ids="-".join,
)
def test_freed_memory_is_used_again_without_new_pages(where):
  assert _faults(*where, "keep", "programs") < _faults(*where) / 10


@pytest.mark.parametrize(
  "where", [("main",), ("thread",), ("thread", "much")], ids="-".join
)
def test_that_of_images_is_kept_without_that_of_programs(where):
  assert _faults(*where, "keep") < _faults(*where) / 10


def test_large_arrays_go_back_unless_programs_are_to_keep_them():
  assert _faults("main", "large", "keep") > _faults("main", "large") / 2


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_an_environment_that_says_how_to_allocate_is_left_alone(name):
  assert _faults("keep", "refuse", **{name: ""}) > _faults("keep") * 10


@pytest.mark.parametrize("backend", ["cpu", "tpu"])
def test_a_launch_keeps_freed_memory_that_of_programs_on_a_cpu(
  backend, tmp_path, monkeypatch
):
  done = []
  monkeypatch.setattr(launch.jax, "default_backend", lambda: backend)
  monkeypatch.setattr(
    launch, "keep_freed_memory", lambda of_programs: done.append(of_programs)
  )
  monkeypatch.setitem(launch.MODES, "pretrain", lambda *_: done.append("pretrained"))
  monkeypatch.setattr(launch.cores, "use_cores", lambda *_: None)
  launch.run(None, "pretrain", tmp_path)
  assert done == [backend == "cpu", "pretrained"]
