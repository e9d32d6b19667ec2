"""Plans of small runs, against what such runs then are."""

import json

import numpy as np
import pytest
from PIL import Image
from small_run import CLASSES, IMAGES, SIDE, run, small

import clim_jax
from clim_jax import launch
from clim_jax.plan import here, stopwatch
from clim_jax.plan.forecast import CannotFit, Disk, disk_faults


@pytest.fixture(autouse=True, scope="module")
def hasty():
  """Two steps of each kind are enough where it is not the time that is tested."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(stopwatch, "_SECONDS", 0.0)
    yield


@pytest.fixture
def no_memory(monkeypatch):
  """Nothing is run where the memory is too small for it."""
  monkeypatch.setattr(here, "device_memory", lambda _: 1000)


def record(workdir):
  return json.loads((workdir / "plan.json").read_text())


@pytest.fixture(scope="module")
def config(arrays):
  """With a projection whose arrays outweigh the names and places of a checkpoint."""
  return small("base", arrays, model__hidden_dim=4096, model__embedding_dim=64)


@pytest.fixture(scope="module")
def workdir(config, tmp_path_factory):
  path = tmp_path_factory.mktemp("plan") / "run"
  launch.run(config, "plan", path, launch.Request(price_per_hour=7.0))
  return path


@pytest.fixture(scope="module")
def plan(workdir):
  return record(workdir)


def test_a_plan_leaves_nothing_but_its_file(workdir, plan):
  assert [path.name for path in workdir.iterdir()] == ["plan.json"]
  assert plan["fits"]
  assert not plan["faults"]


def test_images_are_counted_by_class(plan):
  counts = np.bincount(np.arange(IMAGES) % CLASSES)
  assert plan["images"]["train"] == IMAGES
  assert plan["images"]["classes"] == {str(c): n for c, n in enumerate(counts)}


def test_folders_give_classes_their_names(tmp_path, no_memory):
  for name, count in (("oaks", 3), ("elms", 14)):
    (tmp_path / "set" / name).mkdir(parents=True)
    for number in range(count):
      pixels = np.full((SIDE, SIDE, 3), number, np.uint8)
      Image.fromarray(pixels).save(tmp_path / "set" / name / f"{number}.png")
  config = small("base", tmp_path / "set", selection__rule="none")
  config.data.source = "folder"
  with pytest.raises(CannotFit, match=r"needs .* GiB a device and .* batch_size=16"):
    launch.run(config, "plan", tmp_path / "run")
  found = record(tmp_path / "run")
  assert found["images"]["classes"] == {"elms": 14, "oaks": 3}
  assert list(found["flop_per_step"]) == ["plain"]


def test_times_add_up_and_are_priced(plan):
  seconds, schedule = plan["seconds"], plan["schedule"]
  steps = (
    schedule["plain_steps"] * seconds["plain_step"]
    + schedule["mixed_steps"] * seconds["mixed_step"]
  )
  assert seconds["steps"] == pytest.approx(steps)
  parts = ("starting", "steps", "selections", "saves")
  assert seconds["total"] == pytest.approx(sum(seconds[part] for part in parts))
  assert plan["price"] == pytest.approx(7.0 * seconds["total"] / 3600)


def test_a_checkpoint_takes_what_was_planned(config, plan, tmp_path):
  run(config, tmp_path / "run")
  steps = [path for path in (tmp_path / "run" / "checkpoints").iterdir()]
  files = (file for path in steps for file in path.rglob("*") if file.is_file())
  taken = sum(file.stat().st_size for file in files)
  assert len(steps) == 2
  # Orbax packs its lists anew each time.
  assert plan["disk"]["checkpoint"] == pytest.approx(taken / len(steps), rel=0.1)


def test_the_call_gives_the_record_also_of_what_cannot_fit(tmp_path, no_memory):
  pixels = np.zeros((IMAGES, SIDE, SIDE, 3), np.uint8)
  settings = small("base", "none.npz", selection__rule="none")
  found = clim_jax.plan(pixels, config=settings, out=tmp_path / "run")
  assert found == record(tmp_path / "run")
  assert (found["fits"], found["seconds"]) == (False, None)
  assert "out of memory" in found["faults"][0]
  assert any("no evaluation" in warning for warning in found["warnings"])
  assert found["images"]["classes"] == {}


def test_a_full_disk_is_a_fault():
  (fault,) = disk_faults(Disk(checkpoint=2**30, kept=3 * 2**30, free=2**30))
  assert "need 3.00 GiB and 1.00 GiB are free; lower checkpoint.keep" in fault
  assert not disk_faults(Disk(checkpoint=1, kept=3, free=3))
  assert not disk_faults(Disk(checkpoint=1, kept=3, free=None))


@pytest.mark.parametrize("target", ["v5e:2x4", "tpu:", "gpu:h100", "tpu:v5e:9x9x9x9"])
def test_a_target_that_there_is_not_is_refused_with_those_there_are(
  target, config, tmp_path
):
  request = launch.Request(target=target)
  with pytest.raises(clim_jax.ConfigError, match="tpu:v5e:2x4"):
    launch.run(config, "plan", tmp_path / "run", request)
