"""Checkpoints on their own: what comes back, where, and in which shape."""

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from clim_jax import sharding
from clim_jax.experiment.checkpoints import Checkpoint, Checkpoints

DIM = 4
STATE = {"step": jnp.zeros((), jnp.int32)}  # any tree will do


def test_what_was_not_saved_is_none(tmp_path):
  checkpoints = Checkpoints(epath.Path(tmp_path), keep=1)
  checkpoints.save(1, Checkpoint(STATE, None))
  restored = checkpoints.restore(1, STATE)
  assert restored.positives is None
  assert not (tmp_path / "1" / "positives").exists()
  checkpoints.close()


@pytest.mark.parametrize("role", ["query", "key"])
def test_an_encoder_comes_back_alone_whatever_else_is_there(role, tmp_path):
  arrays = {
    f"{owner}_{part}": {"layer": jnp.full((3,), number, jnp.float32)}
    for number, (owner, part) in enumerate(
      (owner, part) for owner in ("query", "key") for part in ("params", "stats")
    )
  }
  checkpoints = Checkpoints(epath.Path(tmp_path), keep=1)
  state = arrays | STATE | {"queue": jnp.zeros((6, DIM))}
  checkpoints.save(1, Checkpoint(state, None))
  replicated = sharding.replicated(sharding.make_mesh())
  found = checkpoints.restore_encoder(1, role, replicated)
  assert set(found) == {"params", "batch_stats"}
  for part, saved in (("params", "params"), ("batch_stats", "stats")):
    expected = arrays[f"{role}_{saved}"]["layer"]
    np.testing.assert_array_equal(found[part]["layer"], expected)
    assert found[part]["layer"].sharding.is_equivalent_to(replicated, 1)
  with pytest.raises(FileNotFoundError, match=r"step 2 .* there are \[1\]"):
    checkpoints.restore_encoder(2, role, replicated)
  checkpoints.close()
