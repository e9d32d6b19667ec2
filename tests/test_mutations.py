"""Faults of the nightly run can still be put in."""

import pytest
from mutations import MUTATIONS, ROOT


@pytest.mark.parametrize("path", sorted({mutation.path for mutation in MUTATIONS}))
def test_what_a_fault_takes_the_place_of_stands_there_once(path):
  source = (ROOT / "clim_jax" / path).read_text()
  for mutation in MUTATIONS:
    if mutation.path == path:
      assert source.count(mutation.old) == 1, mutation.old
      assert mutation.new != mutation.old
      named, _, test = mutation.tests.partition("::")
      assert f"def {test.split('[')[0]}" in (ROOT / "tests" / named).read_text()
