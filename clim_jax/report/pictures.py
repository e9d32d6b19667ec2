"""The parts of a report that show images."""

from typing import Any

from etils import epath
from ml_collections import ConfigDict

from clim_jax import sharding
from clim_jax.data.source import Source
from clim_jax.experiment.checkpoints import Checkpoints
from clim_jax.experiment.configuration import Overrides
from clim_jax.experiment.experiment import Experiment, open_data
from clim_jax.experiment.runs import open_run
from clim_jax.report import atlas, gallery, likeness, seen
from clim_jax.report.gallery import Group, Labels
from clim_jax.report.run_files import RunFiles
from clim_jax.report.sample import class_names, draw_sample
from clim_jax.report.sprite import Sprite
from clim_jax.selection import record as selection_record
from clim_jax.selection.record import Record

Sources = tuple[Source, Source | None]  # of training and test images

_TITLES = {
  "random": ("Drawn at random", "Images for which something was kept."),
  "worst": (
    "The worst",
    "Images of whose kept neighbours the fewest share the label.",
  ),
  "disagree": (
    "Mixed with another label",
    "The image drawn for the loss has another label than the anchor.",
  ),
  "none": (
    "Nothing kept",
    "All neighbours were rejected: these images have the plain loss.",
  ),
}


def gather(
  asked: ConfigDict, run: RunFiles, overrides: Overrides, sources: Sources | None
) -> dict[str, Any]:
  """All that the page shows of images.

  Args:
    asked: a config; that of the run stands, save for what may differ.
    run: with a checkpoint.
    overrides: of the run's config.
    sources: its images, where they are open already.

  Raises:
    ConfigError: there is no checkpoint, or the images cannot be opened.
    BadImageError: one cannot be decoded and is not to be skipped.
  """
  mesh = sharding.make_mesh()
  trained = open_run(asked, run.workdir, mesh, overrides)
  config = trained.config
  train, test = sources or open_data(config)
  experiment = Experiment(config, mesh, train, test)
  names = class_names(train)
  labels = Labels(train.labels(), names)
  sprite = Sprite(config.views.evaluation_side)
  record = selection_record.load(run.workdir / selection_record.FILE)
  if record is not None and record.anchors.max() >= train.num_images:
    record = None  # of other images
  sample = draw_sample(trained, mesh, train, test)
  found = likeness.compare(sample.features, sample.is_train)
  votes = likeness.votes(found, sample.labels) if (sample.labels >= 0).any() else None
  context = {
    "trained": trained,
    "num_train": train.num_images,
    "num_test": test.num_images if test is not None else 0,
    "selection": _selection(
      experiment, run.workdir, trained.step, record, labels, sprite
    ),
    "map": atlas.map_of(
      sample, found, votes, record, names, sprite, tsne=config.report.tsne
    ),
    "pairs": atlas.pairs(sample, found, sprite),
    "retrieval": atlas.retrieval(sample, found, names, sprite),
    "confusion": atlas.confusion(mesh, sample, run, names),
  }
  parts = {"train": train} | ({"test": test} if test is not None else {})
  context["sprite"] = sprite.draw(parts, config.views.evaluation_fraction)
  context["tile"] = {
    "side": sprite.side,
    "columns": sprite.columns,
    "count": len(sprite),
  }
  return context


def _selection(
  experiment: Experiment,
  workdir: epath.Path,
  step: int,
  record: Record | None,
  labels: Labels,
  sprite: Sprite,
) -> dict[str, Any] | None:
  if record is None:
    return None
  stream, visits = experiment.stream, {}
  checkpoints = Checkpoints(workdir / "checkpoints")
  positives = checkpoints.restore_positives(step)
  checkpoints.close()
  first_step = int(record.epoch) * stream.steps_per_epoch
  if positives is not None and first_step < step:
    visits = seen.last_visits(stream, first_step, step, positives)
  chosen = gallery.choose(record, labels, visits)
  if mixes := gallery.disagreeing(record, labels, visits):
    chosen["disagree"] = mixes
  shown = {
    kind: [
      gallery.make_row(
        row, record, labels, sprite, visits.get(int(record.anchors[row]))
      )
      for row in rows
    ]
    for kind, rows in chosen.items()
  }
  _add_mixed(experiment, record, visits, chosen, shown, sprite)
  fullest, emptiest = [], []
  if len(record.assignment):
    fullest, emptiest = gallery.sheets(record, labels, sprite)
  return {
    "epoch": int(record.epoch),
    "anchors": len(record.anchors),
    "groups": [Group(*_TITLES[kind], shown[kind]) for kind in _TITLES if kind in shown],
    "fullest": fullest,
    "emptiest": emptiest,
    "sizes": gallery.size_bars(record) if len(record.assignment) else [],
    "has_labels": labels.codes is not None,
    "seen": bool(visits),
  }


def _add_mixed(
  experiment: Experiment,
  record: Record,
  visits: dict[int, seen.Visit],
  chosen: dict[str, list[int]],
  shown: dict[str, list[gallery.Row]],
  sprite: Sprite,
) -> None:
  """Puts into the rows what the loss saw of them."""
  places = [
    (kind, place, visits[int(record.anchors[chosen[kind][place]])])
    for kind, rows in shown.items()
    for place, row in enumerate(rows)
    if row.drawn is not None
  ]
  mixed = seen.mixed_at(experiment, [visit for *_, visit in places])
  if mixed is None:
    return
  for (kind, place, _), image, ratio in zip(places, *mixed, strict=True):
    row = shown[kind][place]
    shown[kind][place] = row._replace(mixed=sprite.add(image), ratio=float(ratio))
