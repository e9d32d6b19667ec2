"""The default run, where what encoded images need is not installed."""

import json
import os
import subprocess
import sys

from small_run import ROOT

_PROGRAM = """
import sys
for name in ("tensorflow", "tensorflow_datasets", "array_record", "clu"):
  sys.modules[name] = None  # whoever imports it finds that there is none
from clim_jax.command_line import main
main()
"""
_SMALL = {
  "epochs": 2,
  "batch_size": 512,
  "views.sides": 16,  # one compiles sooner than two
  "views.min_scales": 0.2,
  "views.max_scales": 1.0,
  "model.width": 2,
  "model.hidden_dim": 8,
  "model.batch_norm_groups": 8,
  "selection.warmup_epochs": 1,
  "selection.num_neighbours": 5,
  "optimizer.warmup_epochs": 1,
  "log.every_steps": 1,
  "evaluation.protocols": "knn",
  "evaluation.references": "raw_pixels",
}


def _run(*arguments):
  return subprocess.run(
    [sys.executable, "-c", _PROGRAM, *arguments],
    cwd=ROOT,
    env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},  # which compiles fastest
    capture_output=True,
    text=True,
    check=False,
  )


def test_the_default_run_does_without_tensorflow(tmp_path):
  keys = [f"--config.{key}={value}" for key, value in _SMALL.items()]
  done = _run("--config=digits", f"--workdir={tmp_path}", *keys)
  assert done.returncode == 0, done.stderr
  assert "crops are cut on the device" in done.stdout
  records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
  assert [record["step"] for record in records] == [1, 2, 3, 4]
  assert "positive_share" in records[-1]
  assert (tmp_path / "evaluation.json").exists()
  assert list(tmp_path.glob("events.out.tfevents.*"))
