"""The map of a sample and what hangs on it: pairs, retrieval, a probe's mistakes."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from clim_jax.report import likeness
from clim_jax.report.run_files import RunFiles
from clim_jax.report.sample import Sample
from clim_jax.report.sprite import Sprite
from clim_jax.selection.record import Record

_QUERIES, _ANSWERS = 12, 8  # of the retrieval
_NEIGHBOURS = 12  # shown when a dot is clicked


def map_of(
  sample: Sample,
  found: likeness.Likeness,
  votes: np.ndarray | None,
  record: Record | None,
  names: dict[int, str],
  sprite: Sprite,
  *,
  tsne: bool,
) -> dict[str, Any]:
  """What the map's script reads: arrays in base64, little-endian."""
  maps = {"main directions": found.places}
  if tsne:
    maps["t-SNE"] = likeness.tsne(sample.features)
  is_train = sample.is_train
  colours = []
  if votes is not None:
    known = np.unique(sample.labels[sample.labels >= 0])
    codes = np.searchsorted(known, sample.labels)
    codes = np.where(sample.labels >= 0, codes, -1)
    shown = [names.get(int(label), str(label)) for label in known]
    colours.append(_colour("label", codes, shown))
  if record is not None and len(record.assignment):
    own = np.where(is_train, sample.ids, 0)
    colours.append(_colour("cluster", np.where(is_train, record.assignment[own], -1)))
  wrong = None
  if votes is not None:
    wrong = np.where(sample.labels < 0, -1, votes != sample.labels)
    both = ["as its neighbours", "unlike its neighbours"]
    colours.append(_colour("error", wrong, both))
  colours.append(_colour("part", ~is_train, ["training", "test"]))
  tiles = [_tile(sample, row, sprite) for row in range(len(sample.ids))]
  shown = found.neighbours[:, :_NEIGHBOURS]
  return {
    "count": len(sample.ids),
    "num_train": int(is_train.sum()),
    "explained": found.explained.tolist(),
    "maps": [
      {"name": name, "places": _packed(np.round(places * 65535), "<u2")}
      for name, places in maps.items()
    ],
    "tiles": _packed(np.array(tiles), "<u4"),
    "ids": _packed(sample.ids, "<u4"),
    "neighbours": _packed(shown, "<u4"),
    "shown": shown.shape[1],
    "colours": colours,
    "wrong": None if wrong is None else int((wrong == 1).sum()),
  }


def _colour(name: str, codes: np.ndarray, names: Sequence[str] = ()) -> dict[str, Any]:
  """What dots can be coloured by; a code of −1 is grey."""
  return {"name": name, "codes": _packed(codes, "<i4"), "names": list(names)}


def _packed(array: np.ndarray, dtype: str) -> str:
  return base64.b64encode(np.ascontiguousarray(array).astype(dtype)).decode()


def _tile(sample: Sample, row: int, sprite: Sprite) -> int:
  return sprite.place(sample.part(row), int(sample.ids[row]))


def pairs(
  sample: Sample, found: likeness.Likeness, sprite: Sprite
) -> list[dict[str, Any]]:
  return [
    {
      "tiles": [_tile(sample, one, sprite), _tile(sample, other, sprite)],
      "cosine": cosine,
      "parts": [sample.part(one), sample.part(other)],
      "ids": [int(sample.ids[one]), int(sample.ids[other])],
    }
    for one, other, cosine in likeness.pairs(found)
  ]


def retrieval(
  sample: Sample, found: likeness.Likeness, names: dict[int, str], sprite: Sprite
) -> list[dict[str, Any]]:
  """Test images, those with a neighbour of another label first, and their nearest."""
  tests = np.flatnonzero(~sample.is_train)
  tests = np.random.default_rng(0).permutation(tests)
  answers = found.neighbours[:, :_ANSWERS]
  same = sample.labels[answers] == sample.labels[:, None]
  known = (sample.labels >= 0)[:, None] & (sample.labels[answers] >= 0)
  wrong = (known & ~same).sum(axis=1)[tests]
  half = _QUERIES // 2
  worst = tests[np.argsort(-wrong, kind="stable")][: half if wrong.any() else 0]
  others = [row for row in tests if row not in worst][: _QUERIES - len(worst)]
  return [
    {
      "tile": _tile(sample, row, sprite),
      "label": _label(sample, row, names),
      "answers": [
        {
          "tile": _tile(sample, other, sprite),
          "label": _label(sample, other, names),
          "agrees": bool(agrees) if is_known else None,
          "cosine": float(cosine),
        }
        for other, agrees, is_known, cosine in zip(
          answers[row], same[row], known[row], found.similarities[row], strict=False
        )
      ],
    }
    for row in [*worst, *others]
  ]


def _label(sample: Sample, row: int, names: dict[int, str]) -> str:
  label = int(sample.labels[row])
  return "" if label < 0 else names.get(label, str(label))


def confusion(
  mesh: Mesh, sample: Sample, run: RunFiles, names: dict[int, str]
) -> dict[str, Any] | None:
  """A linear probe's, where there are labels and test images."""
  labelled, is_train = sample.labels >= 0, sample.is_train
  if (
    not (labelled & ~is_train).any() or len(set(sample.labels[labelled & is_train])) < 2
  ):
    return None
  regulariser = run.config["online.regulariser"]
  classes, counts = likeness.confusion(
    mesh, sample.features, sample.labels, is_train, regulariser
  )
  if not counts.sum():
    return None
  off = counts * (1 - np.eye(len(classes), dtype=np.int64))
  most = np.argsort(-off, axis=None, kind="stable")[:12]
  shown = [names.get(int(label), str(label)) for label in classes]
  return {
    "names": shown,
    "counts": counts.tolist(),
    "accuracy": float(np.trace(counts) / counts.sum()),
    "tested": int(counts.sum()),
    "regulariser": regulariser,
    "most": [
      (shown[cell // len(classes)], shown[cell % len(classes)], int(off.flat[cell]))
      for cell in most.tolist()
      if off.flat[cell]
    ],
  }
