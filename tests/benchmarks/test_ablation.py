"""The grid of the ablation: what runs, what is kept, and the arms of its own."""

import json
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits

from benchmarks import (
  ablation,
  ablation_arms,
  ablation_data,
  ablation_figure,
  ablation_grid,
  ablation_report,
  ablation_sets,
  ablation_statistics,
  ablation_tables,
)
from clim_jax import sharding
from clim_jax.experiment import keys
from clim_jax.experiment.configuration import load
from clim_jax.method import losses
from clim_jax.method.objective import Anchors

CELLS = list(ablation_grid.cells())
DIGITS = [cell for cell in CELLS if cell.name.startswith("digits/center_wise/seed=")]


def test_cells_have_names_of_their_own():
  assert len({cell.name for cell in CELLS}) == len(CELLS)


def test_every_finished_cell_is_one_of_the_grid():
  rows = ablation.ablation_results.read(ablation.RESULTS)
  assert rows.keys() <= {cell.name for cell in CELLS}


@pytest.mark.parametrize("data", ablation_sets.DATA_SETS, ids=lambda data: data.name)
def test_every_override_is_a_key_that_can_hold_it(data):
  for cell in CELLS:
    if cell.data == data and cell.seed == 0:
      values = {**data.overrides, **cell.overrides, "seed": cell.seed}
      keys.override(load(data.config), values)


def test_every_arm_is_on_the_digits_and_each_differs():
  kinds = {
    arm: (cell.overrides.items() and str(cell.overrides), arm in ablation_grid.SCIENCE)
    for cell in CELLS
    if cell.seed == 0
    for arm in [cell.arm]
    if cell.name == f"digits/{arm}/seed=0"
  }
  assert set(kinds) == set(ablation_grid.ARMS)
  ordinary = [kind for kind, science in kinds.values() if not science]
  assert len(set(ordinary)) == len(ordinary)


def test_arms_of_science_are_those_that_a_process_can_put_in_place():
  assert {*ablation_arms.SELECTIONS, "nnclr"} == set(ablation_grid.SCIENCE)


def finish(workdir, step=4):
  workdir.mkdir(parents=True, exist_ok=True)
  record = {"step": step, "loss": 1.0, "contrast_accuracy": 0.5}
  record |= {"images_per_second": 8.0, "images_per_second_per_device": 4.0}
  record |= {"selection/seconds": 2.0, "selection/empty_share": 0.25}
  lines = [record | {"step": 2}, record]
  (workdir / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
  result = {"dataset": "digits", "protocol": "knn", "labels": "all", "side": 16}
  result |= {"encoder": workdir.name, "top1": 0.9, "std": None}
  (workdir / "evaluation.json").write_text(json.dumps({"results": [result]}))
  sessions = [{"devices": "1 × another"}, {"devices": "2 × cpu"}]
  (workdir / "history.jsonl").write_text(
    "".join(json.dumps(x) + "\n" for x in sessions)
  )


def run_all(tmp_path, run, cells=DIGITS[:3], **options):
  results = tmp_path / "results.jsonl"
  options = {"minutes": None} | options
  ablation.run_cells(cells, tmp_path, results, run=run, **options)
  return ablation.ablation_results.read(results)


def to_the_end(cell, arguments, log):
  workdir = next(a for a in arguments if a.startswith("--workdir=")).split("=", 1)[1]
  finish(log.parent / workdir.rsplit("/", 1)[1])
  return 0


def test_a_finished_cell_has_a_line_with_its_figures_and_no_folder(tmp_path):
  rows = run_all(tmp_path, to_the_end)
  assert list(rows) == [cell.name for cell in DIGITS[:3]]
  row = rows[DIGITS[1].name]
  assert (row["seed"], row["steps"], row["devices"]) == (1, 4, 2)
  assert row["hardware"] == "2 × cpu"
  assert row["seconds_selection"] == 2.0  # two lines of one refresh
  assert row["evaluation"][0]["encoder"] == "run"
  assert not (tmp_path / DIGITS[0].name.replace("/", "_")).exists()


def test_a_cell_that_dies_has_no_line_and_the_next_one_runs(tmp_path):
  def second_dies(cell, arguments, log):
    return 1 if cell.seed == 1 else to_the_end(cell, arguments, log)

  assert [row["seed"] for row in run_all(tmp_path, second_dies).values()] == [0, 2]


def test_what_an_earlier_process_began_is_said_to_be_resumed(tmp_path):
  (tmp_path / DIGITS[0].name.replace("/", "_")).mkdir()
  rows = run_all(tmp_path, to_the_end)
  assert [row["resumed"] for row in rows.values()] == [True, False, False]


def test_no_cell_begins_after_the_minutes(tmp_path):
  assert run_all(tmp_path, to_the_end, minutes=-1.0) == {}


def test_runs_beside_one_another_have_a_line_each(tmp_path):
  beside = threading.Barrier(3, timeout=60)  # that all three have begun

  def together(*arguments):
    beside.wait()
    return to_the_end(*arguments)

  rows = run_all(tmp_path, together, at_once=3)
  assert set(rows) == {cell.name for cell in DIGITS[:3]}


def test_a_half_written_line_is_no_finished_cell(tmp_path):
  path = tmp_path / "results.jsonl"
  path.write_text('{"cell": "a"}\n{"cell": "b", "se')
  assert list(ablation.ablation_results.read(path)) == ["a"]


def test_a_row_after_a_half_written_one_can_be_read(tmp_path):
  (tmp_path / "results.jsonl").write_text('{"cell": "b", "se')
  assert len(run_all(tmp_path, to_the_end, cells=DIGITS[:1])) == 1


def test_a_row_names_the_code_that_its_run_began_with(tmp_path, monkeypatch):
  now = ["before"]
  monkeypatch.setattr(ablation.ablation_results, "commit", lambda: now[0])

  def code_changes_meanwhile(*arguments):
    now[0] = "after"
    return to_the_end(*arguments)

  (row,) = run_all(tmp_path, code_changes_meanwhile, cells=DIGITS[:1]).values()
  assert row["commit"] == "before"


def test_the_list_says_what_is_done_and_what_is_left():
  row = {"data": "digits", "arm": "center_wise", "seconds": 3600.0, "hardware": "a"}
  text = ablation.listing(DIGITS[:3], {DIGITS[0].name: row}, hardware="a")
  assert text.splitlines()[-1] == "1 of 3 cells done; 2.0 h left"
  text = ablation.listing(DIGITS[:3], {DIGITS[0].name: row}, hardware="b")
  assert "2 cells of unknown time" in text


def test_cells_run_in_the_order_of_the_patterns():
  found = ablation.matching("digits/full/*,digits/moco/seed=0,digits/*/seed=0")
  names = [cell.name for cell in found]
  assert names[9:12] == [
    "digits/full/seed=9",
    "digits/moco/seed=0",
    "digits/center_wise/seed=0",
  ]
  assert len(set(names)) == len(names)


def test_a_pattern_that_fits_no_cell_is_refused():
  with pytest.raises(SystemExit, match="no cell is named 'digits/clim'"):
    ablation.main(["--cells=digits/clim"])


def test_the_first_of_each_class_are_taken():
  labels = np.array([1, 0, 1, 1, 0, 0])
  np.testing.assert_array_equal(ablation_data.first_of_each(labels, 2), [0, 1, 2, 4])


def test_defaults_are_chosen_on_none_of_the_images_that_test(tmp_path):
  ablation_data.prepare(None, tmp_path)
  with np.load(tmp_path / "digits_train.npz") as data:
    seen = {image.tobytes() for image in data["image"][..., 0]}
    assert len(data["image"]) == len(data["label"]) == 1437
  digits = load_digits()
  pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
  others = [image for image in pixels if image.tobytes() not in seen]
  assert len(others) == 360  # test images, each unlike every training image
  for data in ablation_sets.DATA_SETS[-2:]:  # no test images: a part is held out
    assert data.chooses
    assert not load(data.config).data.test_path
    assert not data.overrides["data.test_path"]
  asked = {  # how the peer's batch normalisation differs, which chooses nothing
    ablation_grid.swept(cell.name) for cell in CELLS if not cell.data.chooses
  }
  assert asked == {"", "model.batch_norm_groups=1"}


SETTINGS = {
  "rule": "center_wise",
  "num_neighbours": 3,
  "num_centers": 2,
  "kmeans_iterations": 2,
  "probes": 0,
  "seed": 0,
}
IMAGES = 13


def selected(arm, labels):
  mesh = sharding.make_mesh(jax.devices()[:2])
  rows = np.random.default_rng(0).normal(size=(14, 4)).astype(np.float32) + 3.0
  rows /= np.linalg.norm(rows, axis=1, keepdims=True)
  selection = ablation_arms.SELECTIONS[arm](**SETTINGS)
  found = selection(
    mesh,
    sharding.put_rows(mesh, rows),
    num_images=IMAGES,
    epoch=0,
    labels=labels,
    previous=None,
  )
  return rows, found


def test_random_positives_are_all_other_images():
  _, found = selected("random", None)
  for image in range(IMAGES):
    assert sorted(found.positives.of(image)) == sorted({*range(IMAGES)} - {image})


def test_positives_of_the_same_label_are_all_others_of_it():
  labels = np.arange(IMAGES) % 3 * 7
  _, found = selected("same_label", labels)
  for image in range(IMAGES):
    others = np.flatnonzero(labels == labels[image])
    assert sorted(found.positives.of(image)) == [i for i in others if i != image]
  assert found.figures["positives_precision"] == 1.0


def test_centred_features_have_no_mean_and_padding_has_no_part_in_it():
  rows, found = selected("centred", None)
  centred = np.asarray(ablation_arms.centred(jnp.asarray(rows), IMAGES))
  images = rows[:IMAGES] - rows[:IMAGES].mean(axis=0)
  images /= np.linalg.norm(images, axis=1, keepdims=True)
  np.testing.assert_allclose(centred[:IMAGES], images, atol=1e-5)
  order = np.argsort(-(images @ images.T) + 9 * np.eye(IMAGES), axis=1)[:, :3]
  np.testing.assert_array_equal(np.sort(found.rows.neighbours), np.sort(order))


def test_the_nearest_key_of_the_queue_takes_the_place_of_the_anchors_own():
  rng = np.random.default_rng(0)
  query, keys, queue = (np.float32(rng.normal(size=(n, 5))) for n in (3, 3, 8))
  anchors = Anchors((), (), (), jnp.asarray(keys), None, np.zeros(3, bool))

  def loss(encoder, params, stats, anchors, negatives, recipe):
    logits = losses.negative_logits(query, negatives, temperature=0.5)
    found = ablation_arms.queued_info_nce(query, anchors.keys, logits, temperature=0.5)
    return found, anchors.keys

  by_nearest = ablation_arms.with_nearest_keys(loss)
  found, nearest = by_nearest(None, None, None, anchors, jnp.asarray(queue), None)
  ids = np.argmax(np.float64(keys) @ queue.T, axis=1)
  np.testing.assert_array_equal(nearest, queue[ids])
  logits = np.float64(query) @ np.float64(queue).T / 0.5
  expected = np.log(np.exp(logits).sum(axis=1)) - logits[range(3), ids]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def by_seed(values, hardware="1 × cpu"):
  return {(seed, hardware): value for seed, value in values.items()}


def test_a_paired_difference_has_scipys_interval():
  arm = by_seed({0: 71.0, 1: 74.5, 2: 70.0, 9: 1.0})
  base = by_seed({0: 64.0, 1: 65.0, 2: 66.5, 8: 2.0})
  found = ablation_statistics.difference(arm, base)
  expected = stats.ttest_rel([71.0, 74.5, 70.0], [64.0, 65.0, 66.5])
  low, high = expected.confidence_interval(0.95)
  np.testing.assert_allclose(found, (20.0 / 3, low, high, 3))
  assert ablation_statistics.difference(arm, by_seed({0: 1.0, 1: 2.0})) is None
  assert (
    ablation_statistics.difference(arm, by_seed(dict.fromkeys(range(9), 1), "b"))
    is None
  )


@pytest.mark.parametrize(
  ("interval", "verdict"),
  [
    ((1.0, 0.5, 1.5), "better"),
    ((0.0, -1.0, 1.0), "undecided"),
    ((-1.0, -2.0, -0.1), "worse"),
    ((0.3, 0.3, 0.3), "undecided"),  # one test image in every pair
  ],
)
def test_a_verdict_needs_an_interval_that_excludes_zero(interval, verdict):
  assert ablation_statistics.Difference(*interval, 3).verdict == verdict


def row_of(cell, top1, hardware="1 × cpu", **figures):
  data, arm, *_, seed = cell.split("/")
  result = {"protocol": "knn", "labels": "all", "side": 16, "encoder": "run"}
  return {
    "cell": cell,
    "data": data,
    "arm": arm,
    "seed": int(seed.removeprefix("seed=")),
    "hardware": hardware,
    "evaluation": [result | {"top1": top1 / 100}],
  } | figures


def rows_of(arm, *top1, data="digits", **others):
  return [
    row_of(f"{data}/{arm}/seed={seed}", one, **others) for seed, one in enumerate(top1)
  ]


def test_the_answer_counts_intervals_that_exclude_zero():
  rows = rows_of("moco", 50, 51, 52) + rows_of("full", 60, 61.5, 62)
  rows += rows_of("center_wise", 50.5, 50.5, 52.5) + rows_of("knn", 55, 55.5, 57.5)
  text = ablation_report.answer(rows)
  assert "at several sides, is above MoCo v2 in 1 of 1 figures" in text
  assert "CLIM at one side is above MoCo v2 in 0 of 1 figures;" in text
  assert "above kNN + CutMix in 0 of 1 figures, below in 1;" in text
  assert "the mixture alone, are above MoCo v2 — too few seeds yet to say" in text


def test_runs_of_unlike_hardware_are_no_pair():
  rows = rows_of("moco", 50, 51, 52) + rows_of("full", 60, 61, 63, hardware="1 × GPU")
  assert "several sides, is above MoCo v2 — too few" in ablation_report.answer(rows)


def test_a_sweep_holds_each_value_against_the_same_seeds():
  default = rows_of("center_wise", 90, 80, 70, data="digits_train")
  value = "digits_train/center_wise/selection.num_neighbours=5/seed=0"
  text = ablation_tables.sweeps([row_of(value, 91.5)], default)
  assert text.splitlines()[-1] == "| `selection.num_neighbours=5` | 1 | +1.5 |"


def test_a_sweep_of_another_arm_is_held_against_that_arm():
  rows = rows_of("center_wise", 90, data="cifar10_part")
  rows += rows_of("full", 80, data="cifar10_part")
  of_full = "cifar10_part/full/model.batch_norm_groups=1/seed=0"
  rows.append(row_of(of_full, 81))
  others = {"seconds": 1.0, "resumed": False, "steps": 1, "config": "own_images:5000"}
  others |= {"selections": []}
  text = ablation_report.evidence([row | others for row in rows])
  assert "| less CLIM, several sides | seeds |" in text
  assert "| `model.batch_norm_groups=1` | 1 | +1.0 |" in text


def test_a_resumed_run_has_no_part_in_the_seconds():
  runs = [{"seconds": 5.0, "resumed": True}, {"seconds": 90.0, "resumed": False}]
  assert ablation_tables.seconds(runs) == "90"
  assert ablation_tables.seconds(runs[:1]) == ""


def test_the_table_of_the_recipe_for_own_images_is_that_of_the_results():
  page = (ablation.ROOT / "docs" / "configs.md").read_text()
  rows = ablation.ablation_results.read(ablation.RESULTS).values()
  for data, name in (("imagenette96", "Imagenette"), ("cifar10_part", "CIFAR-10")):
    of_data = [row for row in rows if row["data"] == data]
    arms = ablation_tables.by_arm(r for r in of_data if not ablation_tables.swept(r))
    for arm, encoder, title in (
      ("full", "run", f"{name}: this config"),
      ("moco", "run", "MoCo v2, one side"),
      ("moco", "untrained", "network before training"),
      ("moco", "raw_pixels", "pixels"),
    ):
      found = ablation_statistics.top1(arms[arm], encoder)
      side = max(side for *_, side in found)
      means = [
        f"{np.mean(list(found[protocol, labels, side].values())):.1f}"
        for protocol, labels in (
          ("knn", "all"),
          ("linear_cached", "all"),
          ("few_label", "10 a class"),
        )
      ]
      assert f"| {title} | {' | '.join(means)} |" in page


def test_evidence_and_the_readmes_table_are_those_of_the_results():
  rows = ablation.ablation_results.read(ablation.RESULTS).values()
  assert ablation.EVIDENCE.read_text() == ablation_report.evidence(rows)
  page = ablation.README.read_text()
  assert page == ablation_report.put_table(page, ablation_report.readme_table(rows))
  drawn = ablation_figure.labels_in(ablation.FIGURE.read_text())
  assert drawn == ablation_figure.labels(rows)
  assert drawn
