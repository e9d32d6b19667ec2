"""What an evaluation writes and shows."""

import dataclasses
import io
import json

import pytest
from rich.console import Console

from clim_jax.evaluate.curves import draw_curves
from clim_jax.evaluate.results import (
  SCHEMA,
  Result,
  encoder_names,
  no_better,
  print_table,
  to_json,
)

RESULT = Result(
  dataset="pets",
  protocol="knn",
  labels="all",
  side=16,
  encoder="clim",
  top1=0.5,
  std=None,
  top1_by_seed=None,
  chosen={"k": 1},
  settings=[{"k": 1, "top1": 0.5}],
  stamp={"crop": "central", "classes": 10},
)

NAMES = encoder_names("clim", is_run=True)


def replaced(**changes):
  return dataclasses.replace(RESULT, **changes)


def shown(results, width=100):
  console = Console(width=width, file=io.StringIO())
  print_table(results, "Top-1", NAMES, console)
  return console.file.getvalue().replace("\N{NBSP}", " ")


def test_the_file_names_its_schema_and_holds_every_field():
  document = json.loads(to_json([RESULT], encoders={"clim": {"step": 3}}))
  assert (document["schema"], document["encoders"]) == (SCHEMA, {"clim": {"step": 3}})
  assert document["results"] == [dataclasses.asdict(RESULT)]


def test_the_table_has_a_column_an_encoder_and_a_row_a_protocol():
  text = shown(
    [
      RESULT,
      replaced(encoder="raw_pixels", top1=0.25),
      replaced(protocol="finetune", labels="1%", top1=0.6, std=0.0123),
    ]
  )
  assert "dataset pets, side 16" in text
  (knn,) = [line for line in text.splitlines() if "kNN" in line]
  assert [cell.strip() for cell in knn.split("│")[3:5]] == ["50.0", "25.0"]
  (tuned,) = [line for line in text.splitlines() if "fine-tuning" in line]
  assert [cell.strip() for cell in tuned.split("│")[3:5]] == ["60.0 ± 1.2", ""]


def test_the_table_speaks_plainly_and_says_what_its_figures_are():
  few = replaced(labels="2 a class", std=0.1, top1_by_seed=[0.5] * 5)
  text = shown([RESULT, few, replaced(encoder="untrained")])
  assert "this run" in text
  assert "network before training" in text
  assert "pixels themselves" not in text
  assert "± over 5 draws of the labels; chance is 10" in text
  foreign = encoder_names("clim", is_run=False)
  assert "clim" not in foreign


def test_sets_of_other_sizes_have_another_chance():
  other = replaced(dataset="cats", stamp={"classes": 4})
  text = " ".join(shown([RESULT, other]).split())
  assert "chance is 10 on pets; chance is 25 on cats" in text


def test_a_run_that_is_not_above_a_reference_is_told_with_both_figures():
  rows = [RESULT, replaced(protocol="linear", top1=0.9)]
  pixels = [
    replaced(encoder="raw_pixels", top1=0.8),
    replaced(encoder="raw_pixels", protocol="linear", top1=0.6),
  ]
  untrained = replaced(encoder="untrained", top1=0.49)
  (line,) = no_better([*rows, *pixels, untrained], "clim", NAMES)
  assert (
    "this run is no better than the pixels themselves: mean 70.0 against 70.0" in line
  )
  assert not no_better(rows, "clim", NAMES)
  pixels[0] = replaced(encoder="raw_pixels", top1=0.79)
  assert not no_better([*rows, *pixels, untrained], "clim", NAMES)


@pytest.mark.parametrize("width", [40, 60])
def test_a_narrow_terminal_breaks_no_figure(width):
  long = replaced(encoder="digits-20261124-221530", top1=0.6, std=0.0123)
  assert "60.0 ± 1.2" in shown([long, replaced(encoder="untrained")], width)


def test_there_is_a_curve_over_sides_alone(tmp_path):
  path = tmp_path / "curve.png"
  assert not draw_curves([RESULT, replaced(encoder="untrained")], NAMES, path)
  assert not path.exists()
  assert draw_curves([replaced(side=side, std=0.01) for side in (8, 16)], NAMES, path)
  assert path.read_bytes().startswith(b"\x89PNG")
