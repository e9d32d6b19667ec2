"""The mixed images of a report are those that the step makes."""

import jax
import jax.numpy as jnp
import numpy as np
from small_run import small

from clim_jax import rng, sharding
from clim_jax.data.pipeline import train_batches
from clim_jax.experiment.experiment import open_experiment
from clim_jax.experiment.limits import augment_policy
from clim_jax.method import mixture
from clim_jax.method.objective import Anchors
from clim_jax.method.step import _with_mixing
from clim_jax.method.views import make_roles
from clim_jax.report.seen import last_visits, mixed_at
from clim_jax.selection.positives import from_neighbours

STEP = 3


def table(num_images):
  """Three positives of each image but the first, which has none."""
  ids = (np.arange(num_images)[:, None] + [1, 5, 9]) % num_images
  kept = np.ones(ids.shape, bool)
  kept[0] = False
  return from_neighbours(ids.astype(np.int32), kept)


def of_the_step(experiment, positives):
  """Mixed images and ratios of a whole batch, by what `train_step` itself calls."""
  config, mesh = experiment.config, experiment.mesh
  (batch,) = train_batches(
    experiment.train,
    experiment.stream,
    experiment.view_plan,
    first_step=STEP,
    last_step=STEP + 1,
    positives=positives,
    rows=sharding.process_rows(mesh, config.batch_size),
  )
  recipe = type("Recipe", (), {"mixture": config.mixture.kind})

  def mixed(batch):
    root = rng.stream(jax.random.key(config.seed), "step")
    step_rng = jax.random.fold_in(root, STEP)
    (role,) = make_roles(batch, step_rng, symmetric=False)
    nothing = jnp.zeros((len(batch.key), 1))
    anchors = Anchors(role.queries, role.positives, (), nothing, nothing, nothing)
    rngs = _with_mixing(anchors, step_rng, recipe).mixing_rngs[0]
    views = (role.queries[0], role.positives[0])
    pixels = (view.pixels(augment_policy(config)) for view in views)
    kind = config.mixture.kind
    return mixture.mix(kind, rngs, *pixels, alpha=config.mixture.alpha)

  rows = sharding.ROWS
  mapped = sharding.spmd(mixed, mesh, in_specs=(rows,), out_specs=(rows, rows))
  return jax.device_get(mapped(sharding.put_rows(mesh, batch)))


def test_the_mixed_images_are_those_of_the_step(arrays):
  config = small("base", arrays)
  config.views.sides, config.views.min_scales = (8, 7), (0.2, 0.2)
  config.views.max_scales = (1.0, 1.0)
  experiment = open_experiment(config)
  positives = table(experiment.train.num_images)
  images, ratios = of_the_step(experiment, positives)
  visits = last_visits(experiment.stream, 0, STEP + 1, positives)
  own = [visit for visit in visits.values() if visit.step == STEP]
  found = mixed_at(experiment, own[::-1][:7])
  rows = [visit.row for visit in own[::-1][:7]]
  np.testing.assert_array_equal(found.ratios, ratios[rows])
  assert np.ptp(found.ratios) > 0
  # Rounded to bytes here; the draws of XLA's programs may differ in the last bit.
  np.testing.assert_allclose(found.images / 255, images[rows], atol=0.51 / 255 + 1e-5)


def test_a_visit_is_the_last_step_that_showed_an_image(arrays):
  experiment = open_experiment(small("base", arrays))
  stream, positives = experiment.stream, table(experiment.train.num_images)
  visits = last_visits(stream, 1, 4, positives)
  for image, visit in visits.items():
    shown = [s for s in (1, 2, 3) if image in stream.step(s, None).anchors]
    assert visit.step == shown[-1]
    batch = stream.step(visit.step, positives)
    assert batch.anchors[visit.row] == image
    assert batch.positives[visit.row] == visit.positive
  assert len(visits) >= 32


def test_nothing_is_mixed_without_a_mixture(arrays):
  experiment = open_experiment(small("base", arrays, mixture__kind="direct"))
  visits = last_visits(experiment.stream, 0, 1, table(experiment.train.num_images))
  assert mixed_at(experiment, list(visits.values())[:2]) is None
