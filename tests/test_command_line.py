"""What is typed is done, or refused with what comes nearest."""

import errno
import os
import pathlib
import subprocess
import sys

import pytest

from clim_jax import command_line, launch
from clim_jax.command_line.key_list import key_list
from clim_jax.command_line.pages import page
from clim_jax.command_line.parse import parse
from clim_jax.command_line.table import FLAGS, MODES
from clim_jax.experiment import keys
from clim_jax.experiment.error import ConfigError
from clim_jax.weights.export import FORMATS

ROOT = pathlib.Path(__file__).parent.parent


def typed(*arguments):
  """Of a process of its own: exit code, output, and whether jax was imported."""
  program = (
    "import sys; from clim_jax.command_line import main\n"
    "try: main()\n"
    "finally: print([m for m in ('jax','tensorflow','clu') if m in sys.modules])"
  )
  return subprocess.run(
    [sys.executable, "-c", program, *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=60,
  )


def test_every_mode_is_one_that_can_be_run():
  assert set(MODES) == {*launch.MODES, *command_line._READERS}


def test_the_formats_named_are_those_there_are():
  named = FLAGS["format"].what.replace(" or ", ", ").split(", ")
  assert sorted(named) == sorted(FORMATS)


def test_help_names_every_mode_flag_and_config_without_importing_jax():
  answer = typed("--help")
  assert answer.returncode == 0
  assert answer.stdout.endswith("[]\n")
  for name in (*MODES, *(f"--{flag}" for flag in FLAGS), "digits", "evaluate/knn"):
    assert f"  {name}" in answer.stdout
  assert max(map(len, answer.stdout.splitlines())) <= 88


def test_keys_are_those_of_base_each_with_its_default():
  lines = [
    line for line in key_list().splitlines() if not line.lstrip().startswith("#")
  ]
  found = {}
  for line in lines:
    key, value = line.split("  # ")[0].split(maxsplit=1)
    found[key] = eval(value)
  assert found == keys.BASE


def test_keys_of_a_section_come_with_their_comments():
  listed = key_list("moco")
  assert "moco.momentum " in listed
  assert "# of the key encoder's moving average" in listed
  assert "selection." not in listed
  assert "# none | knn |" in key_list("selection.rule")
  assert "moco.temperature" in key_list("--config.moco.temp")
  with pytest.raises(ConfigError, match=r"'zzz'; the nearest is"):
    key_list("zzz")


@pytest.mark.parametrize(
  ("line", "count"),
  [
    ("--keys", len(keys.BASE)),
    ("--keys --workdir=x", len(keys.BASE)),
    ("--keys=moco", 5),
    ("evaluate --keys moco", 5),
  ],
)
def test_keys_may_be_asked_for_among_other_words(line, count):
  lines = page(line.split()).splitlines()
  assert len([x for x in lines if not x.lstrip().startswith("#")]) == count


def test_no_argument_at_all_is_the_default_run():
  assert page([]) is None
  command = parse([])
  assert (command.mode, command.config.name) == ("pretrain", "digits")


def test_a_page_may_be_read_in_part():
  command = f"{sys.executable} main.py --keys | head -1"
  answer = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
  assert answer.stdout.count("\n") == 1
  assert not answer.stderr


def test_a_wrong_word_ends_the_process_with_an_error_before_jax_is_imported():
  answer = typed("epochs=5")
  assert answer.returncode == 1
  assert answer.stdout == "[]\n"
  assert "Write --config.epochs=5" in answer.stderr
  assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("evaluat", "Did you mean evaluate"),
    ("foo", "The modes are pretrain, plan"),
    ("evaluate pretrain --workdir=x", "two modes"),
    ("--mode=evalute", "no mode 'evalute'. Did you mean evaluate"),
    ("configs/imagenette.py", "Write --config=imagenette"),
    ("imagenette", "Write --config=imagenette"),
    ("mine.py", "Write --config=mine.py"),
    ("tests", "Write --config=own_images:NUM_IMAGES --config.data.path=tests"),
    ("epochs=5", "Write --config.epochs=5"),
    ("temperature=0.1", "Write --config.moco.temperature=0.1"),
    ("workdir=x", "Write --workdir=x"),
    ("--epochs=5", "nearest is --config.epochs=5"),
    ("--moco.symmetric=True", "nearest is --config.moco.symmetric=True"),
    ("--confg=digits", "nearest is --config=digits"),
    ("--confg.epochs=5", "nearest is --config.epochs=5"),
    ("--work_dir=x", "nearest is --workdir=x"),
    ("--config.moco.symmetric False", "Write --config.moco.symmetric=False"),
    ("--distributed false", "Write --distributed=false"),
    ("--config.epochs", "--config.epochs=VALUE"),
    ("--config.name --workdir=x", "--config.name=VALUE"),
    ("--workdir --config=digits", "--workdir=DIR"),
    ("--config.epoch=5", "nearest is epochs"),
    ("--config.epochs=five", "a whole number"),
    ("--config=digit", "mean digits"),
    ("--num_processes=two", "num_processes=two"),
    ("--workdir", "workdir"),
    ("--target=tpu:v5e:2x4", "--target is for plan, not for pretrain"),
    ("--price_per_hour=3", "nearest is --price-per-hour=3"),
    ("plan --price-per-hour=much", "price-per-hour=much"),
    ("--input=x", "--input is for embed, convert, not for pretrain"),
    ("evaluate --workdir=x --format=onnx", "--format is for export, not for evaluate"),
    (
      "evaluate --workdir=x --output=y",
      "--output is for compare, embed, convert, export",
    ),
    ("embed --workdir=x --input=y", "embed needs --input=FOLDER --output=PATH"),
    ("export --workdir=x", "export needs --format=NAME --output=PATH"),
    ("evaluate", "--workdir=DIR"),
    ("embed --input=x --output=y", "--workdir=DIR"),
    ("pretrain --distributed", "--workdir=DIR"),
  ],
)
def test_what_means_nothing_is_refused_with_the_nearest(line, message, monkeypatch):
  monkeypatch.chdir(ROOT)
  with pytest.raises(ConfigError) as refusal:
    parse(line.split())
  assert message in str(refusal.value)


def test_a_word_that_is_a_run_is_taken_for_its_workdir(tmp_path):
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(ConfigError, match=f"Write --workdir={tmp_path}"):
    parse([str(tmp_path)])


@pytest.mark.parametrize(
  "line",
  [
    "evaluate --workdir=x --config.seed=3 --config=smoke",
    "--workdir x --config.seed 3 --config smoke evaluate",
    "--mode=evaluate -workdir=x -config.seed=3 -config=configs/smoke.py",
  ],
)
def test_words_and_flags_stand_in_any_order(line):
  command = parse(line.split())
  assert (command.mode, command.flags["workdir"]) == ("evaluate", "x")
  assert (command.config.name, command.config.seed) == ("smoke", 3)
  assert command.overrides == (True, ("seed",))


def test_nothing_typed_pretrains_on_the_digits_in_a_new_folder():
  command = parse([])
  assert (command.mode, command.config.name) == ("pretrain", "digits")
  assert command.flags["workdir"].startswith("runs/digits-")
  assert command.overrides == (False, ())


def test_of_two_values_the_last_stands_and_a_switch_needs_none():
  command = parse(["--config.epochs=3", "--config.moco.symmetric", "--config.epochs=4"])
  assert (command.config.epochs, command.config.moco.symmetric) == (4, True)


def test_weights_of_others_need_no_run_to_be_exported_but_one_to_be_judged_in():
  weights = "--config.model.weights=w.pth"
  assert parse(["export", "--format=onnx", "--output=x.onnx", weights])
  with pytest.raises(ConfigError, match="--workdir=DIR"):
    parse(["evaluate", weights])


def test_a_home_is_expanded_in_every_path(monkeypatch):
  monkeypatch.setenv("HOME", "/home/me")
  line = "embed --workdir=~/run --input=~/in --output=~/out.npz --config.data.path=~/d"
  command = parse(line.split())
  assert command.flags["workdir"] == "/home/me/run"
  assert command.flags["input"] == "/home/me/in"
  assert command.flags["output"] == "/home/me/out.npz"
  assert command.config.data.path == "/home/me/d"


@pytest.mark.parametrize(
  ("message", "said"),
  [
    ("set data.path=FOLDER", "set --config.data.path=FOLDER"),
    ("epochs 0 must be > 0", "--config.epochs 0 must be > 0"),
    ("evaluation.knn.neighbours: lower it.", "--config.evaluation.knn.neighbours: …"),
    ("give --config.data.path=x", "give --config.data.path=x"),
    ("cannot read /a/data.path or data.path.npz", "cannot read /a/data.path or …"),
    ("10 epochs of model.width.", "10 epochs of --config.model.width."),
  ],
)
def test_errors_name_a_key_by_its_flag(message, said):
  start, _, _ = said.partition("…")
  assert keys.with_flags(message).startswith(start)


def test_answers_to_a_save_that_has_failed_are_not_printed():
  program = (
    "import asyncio, sys\n"
    "from clim_jax import command_line\n"
    "sys.unraisablehook = command_line._but_late_answers\n"
    "loop = asyncio.new_event_loop()\n"
    "loop.close()\n"
    "class Late:\n"
    "  def __del__(self): loop.call_soon_threadsafe(print)\n"
    "class Ours:\n"
    "  def __del__(self): raise RuntimeError('ours')\n"
    "Late(), Ours()\n"
  )
  done = subprocess.run(
    [sys.executable, "-W", "ignore", "-c", program],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=60,
  )
  assert "RuntimeError: ours" in done.stderr
  assert "loop" not in done.stderr


@pytest.mark.parametrize(
  ("number", "file", "said"),
  [
    (errno.ENOSPC, "metrics.jsonl", "metrics.jsonl: the disk is full; make room; then"),
    (errno.ENOSPC, None, "run: the disk is full; make room; then"),
    (errno.EROFS, ".lock", ".lock: the disk is read-only; mount it for writing, or"),
    (errno.EACCES, ".lock", ".lock: this user has no right to it; change its rights"),
    (errno.ENOENT, "a.npz", "[Errno 2] No such file or directory: 'a.npz'"),
  ],
)
def test_a_disk_that_cannot_be_written_ends_a_run_in_a_sentence(
  number, file, said, monkeypatch
):
  def run(*_):
    raise OSError(number, os.strerror(number), file)

  monkeypatch.setattr(launch, "run", run)
  monkeypatch.setattr(sys, "argv", ["clim", "--workdir=run"])
  with pytest.raises(SystemExit) as ended:
    command_line.main()
  assert ended.value.code.startswith(f"error: {said}")
  assert ended.value.code.endswith("newest checkpoint") == (number != errno.ENOENT)
