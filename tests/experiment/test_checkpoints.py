"""Checkpoints on their own: what comes back, where, and in which shape."""

import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from clim_jax import sharding
from clim_jax.experiment.checkpoints import Checkpoint, Checkpoints, SaveError
from clim_jax.experiment.error import ConfigError
from clim_jax.selection.positives import Positives

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


def tree(value):
  return {"step": jnp.int32(value), "w": jnp.full((300,), value, jnp.float32)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """Checkpoints of steps 2 and 4, each with positives."""
  folder = tmp_path_factory.mktemp("run") / "checkpoints"
  positives = Positives(*np.ones((3, 50), np.int32))
  with Checkpoints(epath.Path(folder), keep=2) as checkpoints:
    for step in (2, 4):
      checkpoints.save(step, Checkpoint(tree(step), positives))
  return folder


def empty(step):
  shutil.rmtree(step)
  step.mkdir()


def file_in_place(step):
  shutil.rmtree(step)
  step.write_text("no folder")


def truncate(step, pattern):
  """Halves the files of a pattern; there must be some."""
  files = [path for path in step.rglob(pattern) if path.is_file()]
  assert files
  for path in files:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove(step, pattern):
  paths = sorted(step.rglob(pattern))
  assert paths
  for path in paths:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def of_another_model(step):
  with Checkpoints(epath.Path(step.parent.parent / "other"), keep=1) as other:
    other.save(4, Checkpoint({"step": jnp.int32(4), "w": jnp.zeros(200)}, None))
  shutil.rmtree(step)
  shutil.copytree(step.parent.parent / "other" / "4", step)


def of_other_names(step):
  with Checkpoints(epath.Path(step.parent.parent / "names"), keep=1) as other:
    other.save(4, Checkpoint({"step": jnp.int32(4), "v": jnp.zeros(300)}, None))
  shutil.rmtree(step)
  shutil.copytree(step.parent.parent / "names" / "4", step)


def not_finite(step):
  with Checkpoints(epath.Path(step.parent.parent / "nan"), keep=1) as other:
    other.save(4, Checkpoint(tree(4) | {"w": jnp.full((300,), jnp.nan)}, None))
  shutil.rmtree(step)
  shutil.copytree(step.parent.parent / "nan" / "4", step)


DAMAGE = {
  "empty folder": empty,
  "data truncated": lambda step: truncate(step / "state", "d/*"),
  "all truncated": lambda step: truncate(step, "*"),
  "manifest truncated": lambda step: truncate(step / "state", "manifest.ocdbt"),
  "manifest missing": lambda step: remove(step / "state", "manifest.ocdbt"),
  "data missing": lambda step: remove(step / "state", "d"),
  "state missing": lambda step: remove(step, "state"),
  "positives missing": lambda step: remove(step, "positives"),
  "positives truncated": lambda step: truncate(step / "positives", "*"),
  "metadata missing": lambda step: remove(step, "_CHECKPOINT_METADATA"),
  "metadata half": lambda step: truncate(step, "_CHECKPOINT_METADATA"),
  "tree half": lambda step: truncate(step / "state", "_METADATA"),
  "metadata no object": lambda step: (step / "_CHECKPOINT_METADATA").write_text("[]"),
  "a file in its place": file_in_place,
  "another model": of_another_model,
  "other names": of_other_names,
  "not finite": not_finite,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(damage, saved, tmp_path):
  folder = tmp_path / "checkpoints"
  shutil.copytree(saved, folder)
  damage(folder / "4")
  with Checkpoints(epath.Path(folder), keep=2) as checkpoints:
    step, checkpoint, faults = checkpoints.restore_newest(tree(0))
    assert step == 2
    assert list(faults) == [4]
    assert faults[4]
    np.testing.assert_array_equal(checkpoint.state["w"], 2)
    assert len(checkpoint.positives.count) == 50
    checkpoints.save(4, checkpoint)  # its place is free
    assert checkpoints.newest() == 4
  assert len(list((tmp_path / "damaged").iterdir())) == 1


def test_where_no_checkpoint_is_good_all_are_named_and_stay(saved, tmp_path):
  folder = tmp_path / "checkpoints"
  shutil.copytree(saved, folder)
  for step in ("2", "4"):
    empty(folder / step)
  with (
    Checkpoints(epath.Path(folder), keep=2) as checkpoints,
    pytest.raises(ConfigError, match=r"(?s)another --workdir:.*step 4: .*step 2: "),
  ):
    checkpoints.restore_newest(tree(0))
  assert {path.name for path in folder.iterdir()} >= {"2", "4"}


def test_a_save_that_dies_does_not_hide_the_one_before(saved, tmp_path):
  folder = tmp_path / "checkpoints"
  shutil.copytree(saved, folder)
  (folder / "4").rename(folder / "4.orbax-checkpoint-tmp")
  with Checkpoints(epath.Path(folder), keep=2) as checkpoints:
    assert checkpoints.restore_newest(tree(0)).step == 2


def test_a_good_checkpoint_is_taken_as_it_is(saved):
  with Checkpoints(epath.Path(saved), keep=2) as checkpoints:
    assert checkpoints.restore_newest(tree(0))[::2] == (4, {})


def test_saves_by_minutes_do_not_push_out_those_by_epochs(tmp_path):
  with Checkpoints(epath.Path(tmp_path), keep=2, every=10) as checkpoints:
    for step in (3, 10, 13, 20, 23, 30, 31, 32, 34):
      checkpoints.save(step, Checkpoint(STATE, None))
  assert {int(path.name) for path in tmp_path.iterdir()} == {20, 30, 32, 34}


def steps_in(folder):
  return {int(path.name) for path in folder.iterdir()}


@pytest.fixture
def with_best(tmp_path):
  """Steps 1 … 6, of which 2 is the best and 5 has no figure."""
  folder = tmp_path / "checkpoints"
  with Checkpoints(epath.Path(folder), keep=1, every=100, best="a") as checkpoints:
    for step, value in enumerate((0.2, 0.9, 0.3, 0.8, None, 0.1), start=1):
      figures = {} if value is None else {"a": value, "b": 7.0}
      checkpoints.save(step, Checkpoint(tree(step), None), figures)
      if step == 2:
        assert checkpoints.best() == (2, 0.9)
  return folder


def test_the_best_stays_beside_the_newest_and_is_known_again(with_best):
  assert steps_in(with_best) == {2, 5, 6}
  with Checkpoints(epath.Path(with_best), keep=1, every=100, best="a") as again:
    assert again.best() == (2, 0.9)
    assert again.restore_newest(tree(0)).step == 6
    again.save(7, Checkpoint(tree(7), None), {"a": 0.95})
    again.save(8, Checkpoint(tree(8), None))
    again.save(9, Checkpoint(tree(9), None), {"a": 0.9})
    assert again.best() == (7, 0.95)
  assert steps_in(with_best) == {7, 8, 9}


def test_there_is_no_best_by_another_figure_or_by_none(with_best):
  for name in ("", "b"):
    with Checkpoints(epath.Path(with_best), best=name) as checkpoints:
      assert checkpoints.best() is None


def test_a_checkpoint_whose_figures_are_damaged_is_set_aside(with_best):
  (with_best / "2/metrics/metrics").write_text('{"a": 0.')
  with Checkpoints(epath.Path(with_best), keep=1, every=100, best="a") as checkpoints:
    found = checkpoints.restore_newest(tree(0))
    assert (found.step, found.faults) == (6, {2: "its figures are no JSON object"})
    assert checkpoints.best() == (6, 0.1)


def test_a_full_disk_is_told_with_the_step_to_go_on_from(saved, tmp_path, monkeypatch):
  folder = tmp_path / "checkpoints"
  shutil.copytree(saved, folder)
  checkpoints = Checkpoints(epath.Path(folder), keep=2)

  def full(*_, **__):
    raise ValueError('RESOURCE_EXHAUSTED: Failed writing "d/a"')

  monkeypatch.setattr(checkpoints._manager, "save", full)
  with pytest.raises(SaveError, match=r"RESOURCE_EXHAUSTED.* goes on from step 4"):
    checkpoints.save(6, Checkpoint(tree(6), None))
  checkpoints.close()
