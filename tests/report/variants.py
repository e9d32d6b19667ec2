"""Copies of runs to which something has happened."""

import json
import shutil

from etils import epath


def copied(run, folder):
  shutil.copytree(run, folder / "run")
  return epath.Path(folder / "run")


def with_data(run, folder, **changes):
  """Whose images are elsewhere, or read in another way."""
  run = copied(run, folder)
  config = json.loads((run / "config.json").read_text())
  config["data"] |= changes
  (run / "config.json").write_text(json.dumps(config))
  return run


def killed_at_once(run, folder):
  """Before its first checkpoint, in the midst of a line."""
  run = copied(run, folder)
  for name in ("checkpoints", "evaluation.json", "neighbours.npz", "history.jsonl"):
    target = run / name
    target.rmtree() if target.is_dir() else target.unlink()
  first, *_ = (run / "metrics.jsonl").read_text().splitlines()
  (run / "metrics.jsonl").write_text(first + '\n{"step": 2, "ep')
  return run
