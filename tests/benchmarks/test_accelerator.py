"""The driver of the accelerator's phases, and what the phases stand on."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks import accelerator
from benchmarks.accelerator_phases import agreement, crops

ROOT = pathlib.Path(__file__).parents[2]
# Python without what the machine may lack, as if it had never been installed.
_WITHOUT = """
import importlib.machinery
find = importlib.machinery.PathFinder.find_spec
missing = {"tensorflow", "tensorflow_datasets", "clu", "ml_collections", "array_record",
           "sklearn", "joblib", "matplotlib", "pyarrow"}
importlib.machinery.PathFinder.find_spec = classmethod(
  lambda cls, name, *more: None if name.split(".")[0] in missing else find(name, *more)
)
"""


def lines_of(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def fake_phases(monkeypatch):
  """Sets phases that are scripts, with a time limit; the script knows its file."""

  def use(limit, **scripts):
    def command_of(name, options):
      start = (
        f"line = lambda x: open({str(options.out / name)!r} + '.jsonl', 'a').write(x)"
      )
      return [sys.executable, "-c", f"{start}\n{scripts[name]}"]

    monkeypatch.setattr(accelerator, "PHASES", dict.fromkeys(scripts, limit))
    monkeypatch.setattr(accelerator, "command_of", command_of)

  return use


def test_a_phase_that_fails_or_hangs_stops_no_other(fake_phases, tmp_path):
  fake_phases(
    3,
    breaks="raise SystemExit('broken')",
    hangs="line('{}\\n')\nimport time; time.sleep(1000)",
    errs="""line('{"error": "a case"}\\n{}\\n')""",
    differs="""line('{"agrees": false}\\n{"positives": 0}\\n')""",
    works="line('{}\\n')",
  )
  assert accelerator.main([f"--out={tmp_path}"]) == 1
  ended = {line["phase"]: line for line in lines_of(tmp_path / "phases.jsonl")}
  assert [(e["status"], e["errors"]) for e in ended.values()] == [
    *(("failed", 0), ("out of time", 0), ("done", 1), ("done", 1), ("done", 0))
  ]
  assert lines_of(tmp_path / "hangs.jsonl") == [{}]  # what it wrote before is kept
  assert "broken" in (tmp_path / "breaks.log").read_text()


def test_phases_that_all_work_end_well(fake_phases, tmp_path):
  fake_phases(60, works="line('{}\\n')")
  assert accelerator.main([f"--out={tmp_path}"]) == 0


def test_a_phase_that_there_is_not_is_refused(tmp_path, capsys):
  with pytest.raises(SystemExit):
    accelerator.parse([f"--out={tmp_path}", "--phases=selection,sleep"])
  assert "no phase sleep; there are environment" in capsys.readouterr().err


def test_cases_are_compared_with_their_peers():
  step, search = {"phase": "step"}, {"phase": "search"}
  lines = [
    step | {"case": "A, PyTorch", "images_per_second": 50.0},
    step | {"case": "A", "views": "augmented", "images_per_second": 60.0},
    step | {"case": "A", "views": "given", "images_per_second": 70.0},
    search | {"case": "B, PyTorch", "seconds": 3.0},
    search | {"case": "B", "seconds": 2.0},
    search | {"case": "no peer", "seconds": 2.0},
    search | {"case": "failed", "error": "…"},
  ]
  assert list(accelerator.against_pytorch(lines)) == [
    step | {"case": "A", "times_pytorch": 1.2},
    search | {"case": "B", "times_pytorch": 1.5},
  ]


def test_phases_need_neither_tensorflow_nor_a_config(tmp_path):
  (tmp_path / "sitecustomize.py").write_text(_WITHOUT)
  modules = [f"benchmarks.accelerator_phases.{name}" for name in accelerator.PHASES]
  program = (
    "import importlib.util as u; assert u.find_spec('tensorflow') is None\n"
    f"import {', '.join(modules)}"
  )
  path = os.pathsep.join((str(tmp_path), str(ROOT)))
  subprocess.run(
    [sys.executable, "-c", program], check=True, env=os.environ | {"PYTHONPATH": path}
  )


def test_boxes_lie_inside_their_image():
  rngs = jax.random.split(jax.random.key(0), 500)
  boxes = np.asarray(jax.vmap(lambda rng: crops.random_box(rng, 32))(rngs))
  top, left, height, width = boxes.T
  assert min(top.min(), left.min()) == 0
  assert min(height.min(), width.min()) >= 1
  assert (top + height).max() == (left + width).max() == 32
  share = height * width / 32**2
  assert share.min() > 0.06  # of 8%: sides are whole pixels
  assert share.max() <= 1


def test_rows_to_agree_on_are_unit_vectors_with_many_ties():
  rows = agreement.tied_rows(500)
  np.testing.assert_array_equal((rows * rows).sum(axis=1), 1)
  similarity = rows @ rows.T
  np.testing.assert_array_equal(similarity * 64, np.rint(similarity * 64))
  nearest = -np.sort(-similarity, axis=1)[:, 1:41]
  assert (nearest[:, 1:] == nearest[:, :-1]).mean() > 0.3
