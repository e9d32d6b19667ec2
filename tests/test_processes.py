"""A job of several processes leaves none behind."""

import time

import processes
import pytest


def test_a_failure_of_one_ends_the_others_at_once():
  started = time.monotonic()
  with pytest.raises(AssertionError, match=r"\[None, 3\]"):
    processes.run_together(
      lambda _, process: ["-c", ("import time; time.sleep(60)", "exit(3)")[process]],
      processes=2,
      devices=1,
    )
  assert time.monotonic() - started < 30


def test_what_takes_too_long_is_ended(monkeypatch):
  monkeypatch.setattr(processes, "_SECONDS", 0.2)
  with pytest.raises(AssertionError, match=r"\[None\] after 0\.2 s"):
    processes.run_together(
      lambda *_: ["-c", "import time; time.sleep(60)"], processes=1, devices=1
    )
