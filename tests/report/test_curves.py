"""Which curves there are, and what is read from the files of a run."""

import fcntl
import math

import pytest
from etils import epath
from written_run import RECORDS, a_run, result

from clim_jax.experiment.error import ConfigError
from clim_jax.report import curves, figures
from clim_jax.report.compare import differences, figure_table, write_comparison
from clim_jax.report.render import config_rows
from clim_jax.report.run_files import FINISHED, RUNNING, STOPPED, read_run


def by_title(panels):
  return {panel.title: panel for panel in panels}


def test_a_figure_of_a_selection_counts_once(tmp_path):
  run = read_run(a_run(tmp_path / "a"))
  found = by_title(curves.panels([run]))
  assert found["RankMe"].series[0].points == [(2.0, 5.0), (4.0, 6.0)]
  assert found["Turnover"].series[0].points == [(4.0, 0.5)]


def test_what_is_not_finite_is_left_out_and_chance_is_a_line(tmp_path):
  run = read_run(a_run(tmp_path / "a"))
  loss = by_title(curves.panels([run]))["Loss"]
  assert loss.series[0].points == [(1.0, 6.0), (3.0, 5.0), (4.0, 4.5)]
  assert loss.reference == ("chance, log(100 + 1)", pytest.approx(math.log(101)))


def test_figures_that_a_run_has_not_have_no_plot(tmp_path):
  run = read_run(a_run(tmp_path / "a", records=RECORDS[:1]))
  assert list(by_title(curves.panels([run]))) == ["Loss"]


def test_selections_are_marked_as_far_as_the_run_has_come(tmp_path):
  chosen = {"rule": "knn", "warmup_epochs": 1, "refresh_epochs": 2}
  run = read_run(a_run(tmp_path / "a", epochs=10, selection=chosen))
  assert curves.refreshes(run) == [1, 3]
  none = read_run(a_run(tmp_path / "b", selection={"rule": "none"}))
  assert curves.refreshes(none) == []


def test_the_state_of_a_run(tmp_path):
  assert read_run(a_run(tmp_path / "a")).state == FINISHED
  run = a_run(tmp_path / "b", epochs=9)
  assert read_run(run).state == STOPPED
  with (tmp_path / "b" / ".lock").open("a") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    assert read_run(run).state == RUNNING
  assert read_run(run).state == STOPPED


def test_damaged_files_are_read_as_far_as_they_go(tmp_path):
  run = a_run(tmp_path / "a")
  (run / "history.jsonl").write_text('{"step": 0}\n{"st')
  (run / "evaluation.json").write_text("{")
  (run / "evaluation-old.json").write_text('{"results": [{"top1": 0.5}]}')
  with (tmp_path / "a" / "metrics.jsonl").open("a") as file:
    file.write('{"step": 50, "epo')
  found = read_run(run)
  assert found.sessions == [{"step": 0}]
  assert found.step == 40
  assert figures.by_place(found) == {}
  assert figures.answer(found)[1] == "Its evaluation cannot be read."


def test_a_damaged_config_is_refused(tmp_path):
  run = a_run(tmp_path / "a")
  (run / "config.json").write_text("{")
  with pytest.raises(ConfigError, match="damaged"):
    read_run(run)


def test_the_answer_stands_beside_the_baselines(tmp_path):
  rows = [result("a", 0.9), result("untrained", 0.7), result("raw_pixels", 0.8)]
  run = read_run(a_run(tmp_path / "a", rows=rows))
  state, judged = figures.answer(run)
  assert state == "The run is finished: 4 of 4 epochs, 40 steps."
  assert judged == (
    "90.0% of the test images are told right by its features (kNN, all labels); 70.0% "
    "by the network before training and 80.0% by the pixels themselves. Guessing: 25%."
  )
  assert figures.warnings(run) == ["w"]
  (table,) = figures.evaluation_tables(run)
  assert table.rows == [("kNN, all labels", ["90.0", "70.0", "80.0"], 0)]


def test_what_a_selection_came_to_is_a_sentence(tmp_path):
  last = RECORDS[-1] | {"selection/mean_positives": 5.0, "selection/empty_share": 0.25}
  last |= {"selection/positives_precision": 0.9, "selection/knn_precision": None}
  chosen = {"num_neighbours": 20}
  run = read_run(a_run(tmp_path / "a", records=[last], selection=chosen))
  assert figures.selection_sentence(run) == (
    "5.0 similar images are kept for an image on average, of 20 neighbours: 25%; 25.0% "
    "of the images have none; 90.0% of what is kept shares the label; 50% of it is new "
    "since the selection before."
  )
  assert figures.selection_sentence(read_run(a_run(tmp_path / "b"))) == ""


def test_runs_side_by_side_say_how_far_they_are_from_the_first(tmp_path):
  runs = [
    read_run(a_run(tmp_path / "a", rows=[result("a", 0.5)])),
    read_run(a_run(tmp_path / "b", rows=[result("b", 0.75)], epochs=5)),
    read_run(a_run(tmp_path / "c")),
  ]
  table = figure_table(runs, ["a", "b", "c"])
  assert table.rows == [("kNN, all labels", ["50.0", "75.0 (+25.0)", ""], 1)]
  assert dict(differences(runs)) == {"epochs": [4, 5, 4], "name": ["a", "b", "c"]}
  assert figure_table(runs[2:] * 2, ["c", "c"]) is None


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path):
  paths = [a_run(tmp_path / where / "run") for where in ("one", "two")]
  page = write_comparison(paths, epath.Path(tmp_path / "page.html")).read_text()
  assert "one/run" in page
  assert "two/run" in page
  for wrong in (paths[:1], paths[:1] * 2):
    with pytest.raises(ConfigError):
      write_comparison(wrong, epath.Path(tmp_path / "page.html"))


def test_keys_that_differ_from_the_base_have_its_value_beside(tmp_path):
  run = read_run(a_run(tmp_path / "a", views={"sides": [8], "min_scales": [0.2]}))
  rows = {key: default for key, _, default in config_rows(run)}
  assert rows["views.sides"] == [32]
  assert rows["views.min_scales"] is None  # the same, though a list in JSON
  assert rows["moco.queue_size"] == 65536
