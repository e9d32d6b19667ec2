"""What the newest selection chose: anchors with their neighbours, and clusters."""

from typing import NamedTuple

import numpy as np

from clim_jax.report.seen import Visit
from clim_jax.report.sprite import Sprite
from clim_jax.selection.record import Record

_SHOWN = 12  # neighbours of an anchor
_KEPT = 4  # of them at least, where so many are kept, however far down the list
_EACH = 6  # anchors of a kind
_SHEETS, _MEMBERS = 4, 12  # clusters of a kind, and images of each
_TURNS = 400  # bars of the sizes, at most


class Neighbour(NamedTuple):
  tile: int
  rank: int  # among the neighbours, from 1; 0: none of them
  label: str
  kept: bool
  reason: str  # why it was kept or rejected
  agrees: bool | None  # with the anchor's label; None: unknown


class Row(NamedTuple):
  """An anchor."""

  tile: int
  label: str
  kept: int
  of: int  # neighbours
  neighbours: list[Neighbour]
  drawn: Neighbour | None  # the positive of its last visit
  mixed: int | None  # tile of what the loss saw
  ratio: float | None  # of its pixels that are the anchor's
  step: int | None  # of that visit


class Group(NamedTuple):
  title: str
  what: str
  rows: list[Row]


class Sheet(NamedTuple):
  """A cluster."""

  cluster: int
  size: int
  tiles: list[int]  # nearest to the center first
  common: str  # how many share the most common label


class Labels(NamedTuple):
  """Of the training images, for what is said of them alone."""

  codes: np.ndarray | None  # [N] int; −1 where one has none; None: nobody has one
  names: dict[int, str]

  def name(self, image: int) -> str:
    if self.codes is None or self.codes[image] < 0:
      return ""
    code = int(self.codes[image])
    return self.names.get(code, str(code))

  def agree(self, one: int, other: int) -> bool | None:
    if self.codes is None or min(self.codes[one], self.codes[other]) < 0:
      return None
    return bool(self.codes[one] == self.codes[other])


def choose(
  record: Record, labels: Labels, visits: dict[int, Visit]
) -> dict[str, list[int]]:
  """Rows of the record to be shown, by kind: "random", "worst", "none".

  Those that the loss has seen since come first. The worst are those of whose kept
  neighbours the fewest share the label.
  """
  rng = np.random.default_rng(0)
  order = rng.permutation(len(record.anchors))
  visited = np.array([int(image) in visits for image in record.anchors], bool)
  order = order[np.argsort(~visited[order], kind="stable")]
  has_kept = record.kept.any(axis=1)
  if not record.kept.shape[1]:  # a rule without neighbours
    own = ((image, visits.get(image)) for image in record.anchors.tolist())
    has_kept = np.array([bool(v) and v.positive != image for image, v in own], bool)
  has_kept = has_kept[order]
  chosen = {"random": order[has_kept][:_EACH].tolist()}
  if labels.codes is not None:
    share = _shares(record, labels)[order]
    bad = np.argsort(np.where(visited[order], share, share + 2), kind="stable")
    bad = bad[share[bad] < 1]
    chosen["worst"] = order[bad][:_EACH].tolist()
  chosen["none"] = order[~has_kept][:_EACH].tolist()
  return {kind: rows for kind, rows in chosen.items() if rows}


def _shares(record: Record, labels: Labels) -> np.ndarray:
  """Of an anchor's kept neighbours that share its label, [A]; 1 where none can tell."""
  own, theirs = labels.codes[record.anchors], labels.codes[record.neighbours]
  known = record.kept & (own >= 0)[:, None] & (theirs >= 0)
  same = known & (theirs == own[:, None])
  count = known.sum(axis=1)
  return np.where(count > 0, same.sum(axis=1) / np.maximum(count, 1), 1.0)


def disagreeing(record: Record, labels: Labels, visits: dict[int, Visit]) -> list[int]:
  """Rows of the record whose anchor was mixed with an image of another label."""
  rows = [
    row
    for row, image in enumerate(record.anchors.tolist())
    if image in visits and labels.agree(image, visits[image].positive) is False
  ]
  return rows[:: max(1, len(rows) // _EACH)][:_EACH]


def make_row(
  row: int, record: Record, labels: Labels, sprite: Sprite, visit: Visit | None
) -> Row:
  """An anchor as it is shown, without what the loss saw."""
  anchor = int(record.anchors[row])
  ids, kept = record.neighbours[row], record.kept[row]
  there = np.flatnonzero(ids >= 0)

  def show(image: int, is_kept: bool, rank: int = 0) -> Neighbour:
    return Neighbour(
      sprite.place("train", image),
      rank,
      labels.name(image),
      is_kept,
      _reason(record, anchor, image, is_kept),
      labels.agree(anchor, image),
    )

  has_drawn = visit is not None and visit.positive != anchor
  return Row(
    sprite.place("train", anchor),
    labels.name(anchor),
    int(kept[there].sum()),
    len(there),
    [show(int(ids[i]), bool(kept[i]), int(i) + 1) for i in _shown(there, kept)],
    show(visit.positive, True) if has_drawn else None,
    mixed=None,
    ratio=None,
    step=visit.step + 1 if has_drawn else None,
  )


def _shown(there: np.ndarray, kept: np.ndarray) -> list[int]:
  """Places of the nearest neighbours, some of the kept ones among them."""
  first = [int(i) for i in there if kept[i]][:_KEPT]
  others = [int(i) for i in there if i not in first]
  return sorted([*first, *others[: _SHOWN - len(first)]])


def _reason(record: Record, anchor: int, image: int, kept: bool) -> str:
  if not len(record.assignment):
    return "a neighbour: the rule asks no more"
  if record.assignment[anchor] != record.assignment[image]:
    return "rejected: in another cluster" if not kept else "kept: a neighbour"
  own, theirs = record.closeness[anchor], record.closeness[image]
  nearer = "nearer to" if theirs > own else "no nearer to"
  verdict = "kept" if kept else "rejected"
  return (
    f"{verdict}: same cluster, {nearer} its center (cosine {theirs:.3f}) than the "
    f"image ({own:.3f})"
  )


def sheets(
  record: Record, labels: Labels, sprite: Sprite
) -> tuple[list[Sheet], list[Sheet]]:
  """The fullest clusters, and the emptiest that hold an image."""
  sizes = np.bincount(record.assignment)
  order = np.argsort(-sizes, kind="stable")
  order = order[sizes[order] > 0]
  fullest = order[:_SHEETS]
  emptiest = [cluster for cluster in order[::-1][:_SHEETS] if cluster not in fullest]
  return tuple(
    [_sheet(int(cluster), record, labels, sprite) for cluster in clusters]
    for clusters in (fullest, emptiest)
  )


def _sheet(cluster: int, record: Record, labels: Labels, sprite: Sprite) -> Sheet:
  members = np.flatnonzero(record.assignment == cluster)
  members = members[np.argsort(-record.closeness[members], kind="stable")]
  common = ""
  if labels.codes is not None:
    known = labels.codes[members]
    known = known[known >= 0]
    if len(known):
      names, counts = np.unique(known, return_counts=True)
      name = labels.names.get(int(names[counts.argmax()]), str(names[counts.argmax()]))
      common = f"{counts.max() / len(known):.0%} are {name}"
  tiles = [sprite.place("train", image) for image in members[:_MEMBERS]]
  return Sheet(cluster, len(members), tiles, common)


def size_bars(record: Record) -> list[int]:
  """Sizes of the clusters, largest first; of many clusters every so many-th."""
  sizes = np.sort(np.bincount(record.assignment))[::-1]
  return sizes[:: -(-len(sizes) // _TURNS)].tolist()
