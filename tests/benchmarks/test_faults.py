"""The campaign of faults sees what is lost, and counts it."""

import json
import shutil

import numpy as np
import pytest

from benchmarks import faults
from benchmarks.fault_families import __main__ as families
from benchmarks.fault_families import session
from benchmarks.fault_families.configs import configs
from benchmarks.fault_families.family import Family
from benchmarks.fault_families.harm import HARMS
from benchmarks.fault_families.pictures import pictures


def test_every_family_of_the_command_is_one_that_can_be_tried():
  assert list(faults.FAMILIES) == list(families.FAMILIES)


def test_a_family_that_is_none_is_refused_with_those_there_are(capsys):
  with pytest.raises(SystemExit):
    faults.parse(["--families=kills,fire"])
  assert "no family fire; there are kills, sigterm" in capsys.readouterr().err


def test_a_quick_call_leaves_the_kept_results_alone():
  whole, quick = faults.parse([]), faults.parse(["--quick"])
  assert whole.families == list(faults.FAMILIES)
  assert set(whole.families) - set(quick.families) == {"hosts", "host_lost"}
  assert quick.out != whole.out
  assert whole.out.parts[-2:] == ("results", "faults")


def run_with(program, monkeypatch, tmp_path, limit_scale=1.0):
  """The line of a family whose process is a program of Python."""
  lines = tmp_path / "kills.jsonl"
  monkeypatch.setattr(
    faults, "command_of", lambda *_: [faults.sys.executable, "-c", program, str(lines)]
  )
  options = faults.parse([f"--out={tmp_path}", f"--limit-scale={limit_scale}"])
  return faults.run_family("kills", options)


TRIALS = """
import sys
with open(sys.argv[1], "a") as file:
  file.write('{"trial": "a", "survived": true}\\n{"trial": "b", "survived": false}\\n')
"""


def test_trials_are_counted_and_a_family_that_dies_is_said(monkeypatch, tmp_path):
  found = run_with(TRIALS, monkeypatch, tmp_path)
  assert (found["tried"], found["survived"], found["lost"]) == (2, 1, 1)
  assert found["ended"] == "done"
  found = run_with(f"{TRIALS}sys.exit(1)", monkeypatch, tmp_path)
  assert (found["tried"], found["ended"]) == (2, "failed")


def test_a_family_that_hangs_is_ended(monkeypatch, tmp_path):
  program = "import time; time.sleep(100)"
  scale = 1.0 / faults.FAMILIES["kills"]
  found = run_with(program, monkeypatch, tmp_path, limit_scale=scale)
  assert (found["tried"], found["ended"]) == (0, "out of time")


def test_a_trial_is_written_with_what_was_lost(tmp_path):
  family = Family("kills", tmp_path / "lines", tmp_path, quick=True)
  family.report("one", step=3)
  family.report("two", "all of it")
  one, two = map(json.loads, (tmp_path / "lines").open())
  assert one == {"trial": "one", "survived": True, "step": 3}
  assert two == {"trial": "two", "survived": False, "lost": "all of it"}
  assert family.sized(10, 1) == 1


@pytest.mark.parametrize(("tried", "count"), [(pictures, 200), (configs, 8)])
def test_a_few_strange_inputs_lose_nothing(tried, count, tmp_path, monkeypatch):
  monkeypatch.setattr(Family, "sized", lambda *_: count)
  tried(Family("few", tmp_path / "lines", tmp_path, quick=True))
  trials = [json.loads(line) for line in (tmp_path / "lines").open()]
  assert len(trials) == count
  assert [trial for trial in trials if not trial["survived"]] == []


@pytest.fixture
def copied(plain_run, tmp_path, monkeypatch):
  """A copy of a run; without TensorBoard's events, which a small run does not write."""
  monkeypatch.setattr(session, "event_steps", lambda _: [])
  return shutil.copytree(plain_run, tmp_path / "copy")


def test_a_run_differs_in_nothing_from_its_copy(plain_run, copied):
  assert session.differences(copied, plain_run) == ""


@pytest.mark.parametrize(
  ("change", "told"),
  [
    (lambda lines: lines[:-1], "missing [4]"),
    (lambda lines: [*lines, lines[-1]], "too many [4]"),
    (lambda lines: [lines[0].replace('"loss": ', '"loss": 1'), *lines[1:]], "loss"),
  ],
)
def test_lines_lost_doubled_or_changed_are_seen(change, told, plain_run, copied):
  log = copied / "metrics.jsonl"
  log.write_text("".join(change(log.read_text().splitlines(keepends=True))))
  assert told in session.differences(copied, plain_run)


def test_another_number_in_the_last_checkpoint_is_seen(plain_run, copied, monkeypatch):
  arrays = session.arrays
  assert sum(array.size for array in arrays(copied)) > 100

  def changed(workdir):
    found = [np.array(array) for array in arrays(workdir)]
    if workdir == copied:
      found[-1].flat[0] += 1
    return found

  monkeypatch.setattr(session, "arrays", changed)
  assert session.differences(copied, plain_run) == "the last checkpoint differs"


def test_every_harm_changes_the_folder_of_a_run(tmp_path):
  run = tmp_path / "run"
  for step in ("11", "22"):
    for name in ("state/d/a", "state/manifest.ocdbt", "state/_METADATA"):
      write(run / "checkpoints" / step / name)
    for name in ("positives/d/a", "positives/manifest.ocdbt", "_CHECKPOINT_METADATA"):
      write(run / "checkpoints" / step / name)
  for name in ("config.json", "metrics.jsonl", "history.jsonl", "images.txt.gz"):
    write(run / name, b'{"moco": {"temperature": 1}, "epochs": 3}\n' * 9)
  write(run / "config.json", b'{"moco": {"temperature": 1}, "epochs": 3}\n')
  assert len({harm.name for harm in HARMS}) == len(HARMS) >= 30
  for number, harm in enumerate(HARMS):
    harmed = shutil.copytree(run, tmp_path / str(number))
    harm.do(harmed)
    assert contents(harmed) != contents(run), harm.name


def write(path, data=b"0123456789" * 30):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(data)


def contents(folder):
  return {
    path.relative_to(folder): path.read_bytes() if path.is_file() else None
    for path in folder.rglob("*")
  }
