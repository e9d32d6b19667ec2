"""What the ablation keeps of a finished run: a line of JSON."""

import json
import pathlib
import subprocess
from typing import Any

from benchmarks.ablation_grid import Cell
from clim_jax import __version__

_KEPT = ("dataset", "protocol", "labels", "side", "encoder", "top1", "std")
_CURVE = ("step", "loss", "contrast_accuracy")
_CURVE_POINTS = 20


def read(path: pathlib.Path) -> dict[str, dict]:
  """Rows by the name of their cell; a half-written last line is no row."""
  rows = {}
  for line in path.read_text().splitlines() if path.exists() else ():
    try:
      row = json.loads(line)
    except json.JSONDecodeError:
      continue
    rows[row["cell"]] = row
  return rows


def append(path: pathlib.Path, row: dict[str, Any]) -> None:
  """Adds a row, on a line of its own even after a half-written one."""
  path.parent.mkdir(parents=True, exist_ok=True)
  before = path.read_text() if path.exists() else ""
  end = "" if before.endswith("\n") or not before else "\n"
  with path.open("a") as file:
    file.write(f"{end}{json.dumps(row)}\n")


def row(
  cell: Cell, workdir: pathlib.Path, *, commit: str, seconds: float, resumed: bool
) -> dict[str, Any]:
  """Everything that a figure or a table is made of later.

  Args:
    cell: which run it was.
    workdir: where it lies.
    commit: of the code when it began.
    seconds: of the whole process.
    resumed: whether an earlier process had begun it; `seconds` is then not all.
  """
  log = [json.loads(line) for line in (workdir / "metrics.jsonl").open()]
  document = json.loads((workdir / "evaluation.json").read_text())
  selections = selections_of(log)
  return {
    "cell": cell.name,
    "data": cell.data.name,
    "arm": cell.arm,
    "seed": cell.seed,
    "config": cell.data.config,
    "overrides": {**cell.data.overrides, **cell.overrides},
    "version": __version__,
    "commit": commit,
    "devices": _devices(log),
    "hardware": _hardware(workdir),
    "seconds": round(seconds, 1),
    "resumed": resumed,
    "steps": log[-1]["step"],
    "seconds_selection": round(sum(one["seconds"] for one in selections), 2),
    "evaluation": [
      {key: result[key] for key in _KEPT}
      | {"encoder": _role(result["encoder"], workdir.name)}
      for result in document["results"]
    ],
    "selections": selections,
    "curve": _curve(log),
  }


def summary(row: dict[str, Any]) -> str:
  """The run's own figures, in short."""
  own = [result for result in row["evaluation"] if result["encoder"] == "run"]
  return ", ".join(f"{r['protocol']} {r['labels']} {100 * r['top1']:.1f}" for r in own)


def selections_of(log: list[dict]) -> list[dict]:
  """The figures of each refresh once, with the first logged step that has them."""
  found: list[dict] = []
  for record in log:
    figures = {
      key.removeprefix("selection/"): value
      for key, value in record.items()
      if key.startswith("selection/")
    }
    before = {k: v for k, v in found[-1].items() if k != "step"} if found else {}
    if figures and figures != before:
      found.append({"step": record["step"], **figures})
  return found


def _role(encoder: str, run: str) -> str:
  return "run" if encoder == run else encoder


def _curve(log: list[dict]) -> list[dict]:
  every = max(len(log) // _CURVE_POINTS, 1)
  return [{key: record.get(key) for key in _CURVE} for record in log[::every]]


def _devices(log: list[dict]) -> int | None:
  last = log[-1]
  whole, share = last.get("images_per_second"), last.get("images_per_second_per_device")
  return round(whole / share) if whole and share else None


def _hardware(workdir: pathlib.Path) -> str:
  """Of its last session, such as "1 × cpu"."""
  return json.loads((workdir / "history.jsonl").read_text().splitlines()[-1])["devices"]


def commit() -> str:
  """Of the code as it is now; "-dirty" where more than results has changed."""
  root = pathlib.Path(__file__).resolve().parent.parent

  def git(*arguments: str) -> subprocess.CompletedProcess:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)

  clean = git("diff", "--quiet", "HEAD", "--", ".", ":!results").returncode == 0
  return git("rev-parse", "--short=12", "HEAD").stdout.strip() + "-dirty" * (not clean)
