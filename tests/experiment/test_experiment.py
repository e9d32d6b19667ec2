"""A config's objects are those that its values say."""

import jax
import numpy as np
import pytest
from small_run import CONFIGS, IMAGES, small

from clim_jax.experiment import configuration
from clim_jax.experiment.experiment import exclusion_of, open_experiment
from clim_jax.method import optim
from clim_jax.selection.positives import Positives


def _traced_step(experiment):
  """Shapes of a state before and after a step with positives, and of its metrics."""
  itself = np.arange(IMAGES, dtype=np.int32)
  positives = None
  if experiment.config.selection.rule != "none":
    positives = Positives(itself[::-1], itself.astype(np.int64), np.ones_like(itself))
  batch = next(experiment.batches(0, 1, positives))
  before = jax.eval_shape(experiment.init_state)
  return before, *jax.eval_shape(experiment.train_step(), before, batch)


def _assert_fits(before, after, metrics):
  assert jax.tree.map(lambda x: (x.shape, x.dtype), before) == jax.tree.map(
    lambda x: (x.shape, x.dtype), after
  )
  assert metrics["loss"].shape == ()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_step_of_every_config_takes_its_batches(name, arrays):
  experiment = open_experiment(small(name, arrays))
  before, after, metrics = _traced_step(experiment)
  _assert_fits(before, after, metrics)
  selects = experiment.config.selection.rule != "none"
  assert ("positive_share" in metrics) == selects


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("mixture", ["cutmix", "mixup", "direct"])
def test_the_step_of_every_mixture_takes_its_batches(mixture, symmetric, arrays):
  changes = {"mixture__kind": mixture, "moco__symmetric": symmetric}
  _assert_fits(*_traced_step(open_experiment(small("base", arrays, **changes))))


def test_the_step_with_all_draws_of_the_augmentations_takes_its_batches(arrays):
  changes = {"jitter_probability": 0.8, "blur_probability": 0.5}
  changes |= {"solarize_probability": 0.2}
  changes = {f"augment__{key}": value for key, value in changes.items()}
  _assert_fits(*_traced_step(open_experiment(small("base", arrays, **changes))))


def test_the_rate_is_scaled_with_the_batch_and_warmed_up_in_epochs(arrays):
  config = small("base", arrays)
  config.epochs = 6  # of two steps
  config.optimizer.update(learning_rate=3.2, warmup_epochs=2.0)
  rate = open_experiment(config).learning_rate
  peak = 3.2 * 16 / 256
  found = [float(rate(step)) for step in (0, 2, 4, 8, 12)]
  np.testing.assert_allclose(found, [0, peak / 2, peak, peak / 2, 0], atol=1e-7)


@pytest.mark.parametrize(("schedule", "last"), [("constant", 0.9), ("cosine", 1.0)])
def test_the_key_momentum_is_that_of_the_config(schedule, last, arrays):
  config = small("base", arrays, moco__momentum=0.9, moco__momentum_schedule=schedule)
  momentum = open_experiment(config).key_momentum
  found = [float(momentum(step)) for step in (0, 4)]  # of two epochs of two steps
  np.testing.assert_allclose(found, [0.9, last], atol=1e-6)


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
def test_the_optimizer_has_the_values_of_the_config(name, arrays):
  config = small("base", arrays)
  values = {"momentum": 0.7, "weight_decay": 0.03, "decay_all": False}
  values |= {"b1": 0.6, "b2": 0.8}
  config.optimizer.update(values, name=name)
  experiment = open_experiment(config)
  params = {"kernel": np.float32([[1, -2]]), "scale": np.float32([3, 0.5])}
  gradients = jax.tree.map(np.cos, params)
  found, expected = (
    _updates(optimizer, gradients, params)
    for optimizer in (
      experiment.optimizer,
      optim.make_optimizer(name, experiment.learning_rate, **values),
    )
  )
  for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
    np.testing.assert_array_equal(a, b)


def _updates(optimizer, gradients, params):
  """Of two steps."""
  state = optimizer.init(params)
  _, state = optimizer.update(gradients, state, params)
  return optimizer.update(gradients, state, params)[0]


@pytest.mark.parametrize(
  ("source", "folder", "expected"),
  [
    ("folder", "", "/set/train/1.png"),
    ("folder", "/set", "/set/train/1.png"),
    ("folder", "/set/train/", "/set/train/1.png"),
    ("folder", "/set2", "/set2/train/1.png"),
    ("npz", "/set2", "/set2/train/1.png"),
  ],
)
def test_names_left_out_begin_at_the_set_or_the_folder_opened_in_its_place(
  source, folder, expected, tmp_path
):
  (tmp_path / "list.txt").write_text("train/1.png\n")
  data = configuration.load("base").data
  assert exclusion_of(data, folder) is None
  data.update(source=source, path="/set", exclude=str(tmp_path / "list.txt"))
  assert list(exclusion_of(data, folder).names) == [expected]
