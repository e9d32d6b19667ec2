"""The table of all runs below a folder."""

import io

import pytest
from etils import epath
from rich.console import Console
from written_run import a_run, result

from clim_jax.experiment.error import ConfigError
from clim_jax.report.run_list import print_runs


def printed(folder):
  console = Console(file=io.StringIO(), width=120)
  print_runs(epath.Path(folder), console)
  return console.file.getvalue()


def test_every_run_has_a_row(tmp_path):
  a_run(tmp_path / "finished", rows=[result("finished", 0.876)])
  a_run(tmp_path / "deep" / "er" / "stopped", epochs=40)
  a_run(tmp_path / "new", records=[])
  (a_run(tmp_path / "broken") / "config.json").write_text("{")
  a_run(tmp_path / "finished" / "inside")  # not looked for within a run
  lines = {
    line.split()[1]: line for line in printed(tmp_path).splitlines() if "│" in line
  }
  assert {*lines} == {"finished", "deep/er/stopped", "new", "broken"}
  for part in ("finished", "4/4", "4.50", "87.6"):
    assert part in lines["finished"]
  assert "4/40" in lines["deep/er/stopped"]
  assert "0/4" in lines["new"]
  assert "damaged" in lines["broken"]


def test_a_folder_without_runs_is_refused(tmp_path):
  with pytest.raises(ConfigError, match="no run lies in"):
    printed(tmp_path)
  with pytest.raises(ConfigError, match="there is no folder"):
    printed(tmp_path / "absent")
