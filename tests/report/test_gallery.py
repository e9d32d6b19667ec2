"""Which anchors are shown, and why their neighbours were kept or rejected."""

import numpy as np

from clim_jax.report import gallery
from clim_jax.report.gallery import Labels
from clim_jax.report.seen import Visit
from clim_jax.report.sprite import Sprite
from clim_jax.selection.record import Record

# Images 0–3 in cluster 0, 4 and 5 in cluster 1; labels: 3 and 5 are the odd ones.
RECORD = Record(
  epoch=np.int64(1),
  anchors=np.arange(6),
  neighbours=np.array([[1, 3], [0, 2], [3, 4], [2, 4], [5, 3], [4, -1]], np.int32),
  kept=np.array([[1, 1], [0, 1], [1, 0], [0, 0], [1, 0], [0, 0]], bool),
  assignment=np.array([0, 0, 0, 0, 1, 1], np.int32),
  closeness=np.float32([0.5, 0.6, 0.7, 0.8, 0.6, 0.9]),
)
LABELS = Labels(np.array([0, 0, 0, 1, 2, -1]), {0: "cat", 1: "dog"})


def shown(row, visit=None):
  return gallery.make_row(row, RECORD, LABELS, Sprite(8), visit)


def test_reasons_are_those_of_the_rule():
  kept, same = shown(0).neighbours
  assert "kept: same cluster, nearer to its center (cosine 0.600)" in kept.reason
  assert kept.agrees is True
  assert same.agrees is False
  other = shown(2).neighbours[1]
  assert other.reason == "rejected: in another cluster"
  farther = shown(3).neighbours[0]
  assert farther.reason.startswith("rejected: same cluster, no nearer to its center")


def test_places_that_hold_no_neighbour_are_left_out():
  row = shown(5)
  assert len(row.neighbours) == row.of == 1


def test_kept_neighbours_are_shown_however_far_they_are():
  kept = np.zeros(30, bool)
  kept[[2, 15, 20, 21, 29]] = True
  shown = gallery._shown(np.arange(30), kept)
  assert shown == [*range(9), 15, 20, 21]
  assert gallery._shown(np.arange(30), np.zeros(30, bool)) == list(range(12))
  assert gallery._shown(np.arange(3), np.zeros(3, bool)) == [0, 1, 2]


def test_an_image_without_label_neither_agrees_nor_not():
  assert shown(4).neighbours[0].agrees is None
  assert shown(5).label == ""


def test_the_worst_keep_the_fewest_of_their_label():
  chosen = gallery.choose(RECORD, LABELS, {})
  assert chosen["worst"] == [2, 0]  # the dog alone; a cat and a dog
  assert sorted(chosen["none"]) == [3, 5]
  assert sorted(chosen["random"]) == [0, 1, 2, 4]


def test_without_labels_there_are_no_worst():
  assert "worst" not in gallery.choose(RECORD, Labels(None, {}), {})


def test_anchors_that_the_loss_has_seen_come_first():
  for seen in range(6):
    chosen = gallery.choose(RECORD, LABELS, {seen: Visit(0, 0, seen)})
    kind = "none" if seen in (3, 5) else "random"
    assert chosen[kind][0] == seen


def test_mixed_with_another_label_is_told():
  visits = {0: Visit(4, 0, 3), 1: Visit(4, 1, 2), 4: Visit(4, 2, 5)}
  assert gallery.disagreeing(RECORD, LABELS, visits) == [0]
  row = shown(0, visits[0])
  assert row.drawn.agrees is False
  assert row.step == 5  # steps before people count from one
  assert shown(0, Visit(4, 0, 0)).drawn is None


def test_a_rule_without_neighbours_shows_what_was_drawn():
  nothing = np.zeros((6, 0), np.int32)
  record = RECORD._replace(neighbours=nothing, kept=nothing.astype(bool))
  chosen = gallery.choose(record, LABELS, {2: Visit(0, 0, 1), 3: Visit(0, 1, 3)})
  assert chosen["random"] == [2]
  row = gallery.make_row(2, record, LABELS, Sprite(8), Visit(0, 0, 1))
  assert row.drawn is not None
  assert row.of == 0


def test_sheets_begin_with_the_image_nearest_the_center():
  sprite = Sprite(8)
  fullest, emptiest = gallery.sheets(RECORD, LABELS, sprite)
  assert [sheet.size for sheet in fullest] == [4, 2]
  assert emptiest == []
  assert fullest[0].tiles[0] == sprite.place("train", 3)
  assert fullest[0].common == "75% are cat"
  assert gallery.size_bars(RECORD) == [4, 2]
