"""A run whose page has every part."""

import pytest
from etils import epath
from small_run import small

from clim_jax import launch


@pytest.fixture(scope="session")
def clim_run(arrays, held_out_arrays, tmp_path_factory):
  """With labels, positives and test images; its page is made at its end."""
  workdir = epath.Path(tmp_path_factory.mktemp("runs")) / "clim"
  config = small("base", arrays, data__test_path=str(held_out_arrays))
  config.evaluation.update(protocols=("knn",), references=("raw_pixels",))
  config.report.at_end = True
  launch.run(config, "pretrain", workdir)
  return workdir
