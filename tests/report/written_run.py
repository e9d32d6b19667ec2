"""Files of runs, written by hand."""

import json

from etils import epath

RECORDS = [
  {"step": 10, "epoch": 1.0, "loss": 6.0},
  {"step": 20, "epoch": 2.0, "loss": None, "selection/seconds": 3.0}
  | {"selection/turnover": None, "selection/rank_me": 5.0},
  {"step": 30, "epoch": 3.0, "loss": 5.0, "selection/seconds": 3.0}
  | {"selection/rank_me": 5.0, "selection/turnover": None},
  {"step": 40, "epoch": 4.0, "loss": 4.5, "selection/seconds": 2.0}
  | {"selection/rank_me": 6.0, "selection/turnover": 0.5},
]
STAMP = {"classes": 4}


def result(encoder, top1, **changes):
  row = {"dataset": "d", "protocol": "knn", "labels": "all", "side": 8}
  row |= {"encoder": encoder, "top1": top1, "std": None, "top1_by_seed": None}
  return row | {"chosen": {}, "settings": [], "stamp": STAMP} | changes


def a_run(folder, *, records=RECORDS, rows=(), **config):
  folder.mkdir(parents=True)
  keys = {"epochs": 4, "moco": {"queue_size": 100}, "name": folder.name} | config
  (folder / "config.json").write_text(json.dumps(keys))
  lines = "".join(json.dumps(record) + "\n" for record in records)
  (folder / "metrics.jsonl").write_text(lines)
  if rows:
    document = {"encoders": {folder.name: {}}, "warnings": ["w"], "results": rows}
    (folder / "evaluation.json").write_text(json.dumps(document))
  return epath.Path(folder)
