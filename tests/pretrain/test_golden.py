"""Twenty losses of MoCo v2 and of CLIM, as they were when their files were made.

They change whenever arithmetic, random draws or their order do. Where that is meant,
and another test shows the new numbers to be right, make them anew and say why in the
commit:

MAKE_GOLDEN=1 python -m pytest -m "" tests/pretrain/test_golden.py
"""

import dataclasses
import json
import os

import jax
import kept_programs
import numpy as np
import pytest
from rich.console import Console
from small_run import ROOT, logged, small

from clim_jax import sharding
from clim_jax.experiment.experiment import open_experiment
from clim_jax.pretrain.pretrain import pretrain

_OPTIMISED = "-optimised" * (os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "0")
_HERE = f"{kept_programs.compiled_for()}-{os.cpu_count()}-cores{_OPTIMISED}"
_MAKE = os.environ.get("MAKE_GOLDEN") == "1"


def _losses(rule, devices, arrays, workdir):
  """Of ten epochs of two steps; selection, if any, at epochs 2, 5 and 8."""
  config = small("base", arrays, selection__rule=rule)
  config.epochs = 10
  config.selection.update(warmup_epochs=2, refresh_epochs=3)
  mesh = sharding.make_mesh(jax.devices()[:devices])
  experiment = dataclasses.replace(open_experiment(config), mesh=mesh)
  pretrain(experiment, workdir, Console(quiet=True))
  return [record["loss"] for record in logged(workdir)]


@pytest.mark.parametrize(
  ("name", "rule", "devices"),
  [
    ("moco_v2", "none", 1),
    pytest.param("moco_v2", "none", 2, marks=pytest.mark.slow),
    pytest.param("clim", "center_wise", 1, marks=pytest.mark.slow),
    ("clim", "center_wise", 2),
  ],
)
def test_losses_are_those_of_before(name, rule, devices, arrays, tmp_path):
  path = ROOT / "tests" / "golden" / f"{name}_{devices}.json"
  found = _losses(rule, devices, arrays, tmp_path)
  assert len(found) == 20
  if _MAKE:
    path.write_text(json.dumps({"made_by": _HERE, "losses": found}, indent=1) + "\n")
  golden = json.loads(path.read_text())
  if golden["made_by"] == _HERE:
    assert found == golden["losses"]
  # Elsewhere sums are taken in another order, and every step amplifies their rounding.
  np.testing.assert_allclose(found, golden["losses"], rtol=1e-4)
