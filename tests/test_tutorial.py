"""The tutorial notebook does what it says."""

import ast
import os
import pathlib
import re
import subprocess
import sys

import nbformat
import pytest

ROOT = pathlib.Path(__file__).parent.parent
NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
SETTINGS = '{"config": "digits", "epochs": 40}'


@pytest.fixture(scope="module")
def notebook():
  return nbformat.read(NOTEBOOK, as_version=4)


def code_of(notebook):
  return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_valid_and_kept_without_outputs(notebook):
  nbformat.validate(notebook)
  for cell in notebook.cells:
    assert not cell.get("outputs")
    assert cell.get("execution_count") is None
  for source in code_of(notebook):
    ast.parse(source)


def test_its_links_lead_somewhere(notebook):
  texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
  links = re.findall(r"\]\((?!https?:)([^)#]*)\)", "\n".join(texts))
  assert links
  assert all((NOTEBOOK.parent / link).exists() for link in links)


@pytest.mark.slow
def test_it_runs_from_end_to_end(notebook, tmp_path):
  source = "\n".join(code_of(notebook))
  assert SETTINGS in source
  program = source.replace(SETTINGS, '{"config": "smoke"}')
  program += "\nprint('scores', scores['features'], scores['pixels'])\n"
  (tmp_path / "tutorial.py").write_text(program)
  environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
  done = subprocess.run(
    [sys.executable, "tutorial.py"],
    cwd=tmp_path,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  run = tmp_path / "runs" / "tutorial"
  for name in ("plan.json", "evaluation.json", "report/index.html"):
    assert (run / name).exists(), name
  features, pixels = re.search(r"scores (\S+) (\S+)", done.stdout).groups()
  # Ten classes; the pixels of digits alone tell most of them.
  assert float(features) > 0.3
  assert float(pixels) > 0.6
