"""What is shown while a run goes on, on a terminal and off one."""

import io

import pytest
from rich.console import Console

from clim_jax.pretrain import progress as progress_module
from clim_jax.pretrain.progress import TrainProgress

RECORD = {
  "epoch": 8.2,
  "loss": 4.414,
  "contrast_accuracy": 0.623,
  "images_per_second": 835.4,
}
NAN = float("nan")


@pytest.fixture
def clock(monkeypatch):
  clock = [0.0]
  monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock[0])
  return clock


def made(console):
  return TrainProgress(
    console, first_step=0, total_steps=880, epochs=40, chance_loss=6.93
  )


def off_terminal(**options):
  return Console(file=io.StringIO(), width=60, **options)


def test_off_a_terminal_there_is_a_plain_line_now_and_then_and_at_the_end(clock):
  console = off_terminal()
  with made(console) as progress:
    for step, seconds in ((20, 10), (40, 10), (60, 10), (880, 4)):
      clock[0] += seconds
      progress.advance(step)
      progress.figures(step, RECORD, seconds_left=72.3)
  figures = "epoch 8.2/40  loss 4.41 (chance 6.93)  contrast accuracy 62%  835 images/s"
  lines = console.file.getvalue().splitlines()
  assert lines == [f"step 40/880  {figures}  0:01:12 left", f"step 880/880  {figures}"]


def test_what_was_last_stands_beside_the_figures(clock):
  console = off_terminal()
  with made(console) as progress:
    progress.latest("selection", "warm-up until epoch 8")
    progress.latest("probe", "kNN 93.9% at epoch 5")
    progress.latest("selection", "selected at epoch 8")
    clock[0] += 20
    record = RECORD | {"data_wait_fraction": 0.03}
    progress.figures(1, record, seconds_left=NAN)
  assert console.file.getvalue().endswith(
    "835 images/s  data wait 3%  selected at epoch 8  kNN 93.9% at epoch 5\n"
  )


def test_what_is_not_known_yet_is_left_out(clock):
  console = off_terminal()
  record = {k: v for k, v in RECORD.items() if k != "images_per_second"}
  with made(console) as progress:
    clock[0] += 20
    progress.figures(1, record, seconds_left=NAN)
  assert console.file.getvalue().endswith("contrast accuracy 62%\n")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_cuts_no_figure(width, clock):
  console = Console(file=io.StringIO(), width=width, force_terminal=True)
  with made(console) as progress:
    progress.figures(20, RECORD, seconds_left=72.3)
  text = " ".join(console.file.getvalue().split())
  assert "…" not in text
  for figure in ("20/880", "8.2/40", "6.93)", "62%", "835", "0:01:12"):
    assert figure in text


def test_that_the_next_step_compiles_is_said_before_it_does():
  console = off_terminal()
  with made(console) as progress:
    progress.compiling()
    assert "compiling" in console.file.getvalue()


def test_a_quiet_run_says_warnings_alone(clock):
  console = off_terminal(quiet=True)
  with made(console) as progress:
    clock[0] += 20
    progress.compiling()
    progress.note("a note")
    progress.figures(20, RECORD, seconds_left=1.0)
    progress.warn("the loss rises")
  assert console.file.getvalue() == "warning: the loss rises\n"
