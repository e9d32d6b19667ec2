"""Looks through a set of images once, before anything is trained on it."""

import json
import os
from typing import Any

import jax
import joblib
from etils import epath
from ml_collections import ConfigDict
from rich.console import Console
from rich.progress import track

from clim_jax.data.exclusion import short_name, to_line
from clim_jax.data.sight import look
from clim_jax.data.source import Source
from clim_jax.experiment.cautions import tell_of
from clim_jax.experiment.experiment import open_data
from clim_jax.experiment.keys import with_flags
from clim_jax.sets.copies import exact_copies, near_copies
from clim_jax.sets.findings import Findings, Seen
from clim_jax.sets.report import print_report, to_json
from clim_jax.whole import written_whole

_LIST = "leave_out.txt"


def check(config: ConfigDict, workdir: epath.Path, console: Console) -> dict[str, Any]:
  """Reads every image of a set once; prints what it found and writes it down.

  Writes check/report.json, and check/leave_out.txt, which `data.exclude` takes: images
  that are broken or there more than once, and those of training that are also test
  images. Those that are nearly the same stand there as comments.

  Args:
    config: its section `data` says which images. None are held out: a copy would be
      found in another part each time.
    workdir: where the folder `check` goes.
    console: shows how far it is, the table, and what can be done next.

  Returns:
    What report.json holds.

  Raises:
    ConfigError: the images cannot be opened.
  """
  config = config.copy_and_resolve_references()
  config.data.test_fraction = 0.0
  train, test = open_data(config)
  tell_of(console, train, test)
  root = config.data.path if config.data.source == "folder" else ""
  images = [
    (part, source, image)
    for part, source in (("train", train), ("test", test))
    if source is not None
    for image in range(source.num_images)
  ]
  # Threads will do: decoding and hashing let others run.
  pool = joblib.Parallel(joblib.cpu_count(), prefer="threads", return_as="generator")
  looks = pool(joblib.delayed(look)(source, image) for _, source, image in images)
  shown = {"console": console, "transient": True, "disable": not console.is_terminal}
  sights = list(track(looks, "check", total=len(images), **shown))
  seen = [
    Seen(part, short_name(root, sight.name), _label(source, image), sight)
    for (part, source, image), sight in zip(images, sights, strict=True)
  ]
  copies = exact_copies(sights)
  found = Findings(seen, copies, near_copies(sights, copies))
  abouts = [source.about for source in (train, test) if source is not None]
  told = [text for about in abouts for text in (*about.facts, *about.warnings)]
  report, folder = to_json(found, told), workdir / "check"
  if jax.process_index() == 0:
    _write(found, report, folder)
  print_report(report, console)
  lines = [f"written to {folder}: report.json and {_LIST}"]
  if count := report["leave_out"]:
    lines.append(f"data.exclude={folder / _LIST} leaves out {count} of the images")
  for line in lines:
    console.print(with_flags(line), highlight=False, soft_wrap=True)
  return report


def _write(found: Findings, report: dict[str, Any], folder: epath.Path) -> None:
  folder.mkdir(parents=True, exist_ok=True)
  with written_whole(folder / "report.json") as beside:
    beside.write_text(json.dumps(report, indent=2) + "\n")
  with written_whole(folder / _LIST) as beside:
    beside.write_bytes(os.fsencode(_leave_out_text(found)))


def _label(source: Source, image: int) -> str:
  """The class of an image, by name; "" without one."""
  labels = source.labels()
  if labels is None or labels[image] < 0:
    return ""
  label = int(labels[image])
  return source.class_names[label] if source.class_names else str(label)


def _leave_out_text(found: Findings) -> str:
  lines = ["# Images to leave out: data.exclude takes this file.", ""]
  for name, why in found.to_leave_out().items():
    lines += [f"# {_comment(why)}", to_line(name)]
  near = found.near_ones()
  if near:
    lines += ["", "# Nearly the same as another: look at them, and take away the '# '"]
    lines += ["# before the names of those that are to be left out as well.", ""]
  for name, why in near.items():
    lines += [f"## {_comment(why)}", f"# {to_line(name)}"]
  return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
  return " ".join(text.split())
