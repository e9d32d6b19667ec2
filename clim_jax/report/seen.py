"""What the loss saw of some images when it last had them: the very mixed pixels.

Crops, augmentation and mixture are functions of (seed, step, row): they are made again.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from clim_jax import rng, sharding
from clim_jax.augment.apply import augment
from clim_jax.augment.policy import Policy
from clim_jax.data.batches import crop_batches
from clim_jax.data.index_stream import IndexStream
from clim_jax.experiment.experiment import Experiment
from clim_jax.experiment.limits import augment_policy
from clim_jax.method import mixture
from clim_jax.selection.positives import Positives

_LOOK_BACK = 50  # steps


class Visit(NamedTuple):
  """The last time that an image was an anchor."""

  step: int
  row: int  # of the global batch
  positive: int  # the image drawn for it, itself where it has none


def last_visits(
  stream: IndexStream, first_step: int, stop: int, positives: Positives
) -> dict[int, Visit]:
  """By image, of steps first_step … stop − 1, or the last of them where they are many.

  Args:
    stream: of the run.
    first_step, stop: of steps that drew from `positives`.
    positives: the table.
  """
  visits = {}
  for step in range(max(first_step, stop - _LOOK_BACK), stop):
    batch = stream.step(step, positives)
    for row, image in enumerate(batch.anchors.tolist()):
      visits[image] = Visit(step, row, int(batch.positives[row]))
  return visits


class Mixed(NamedTuple):
  """What the loss saw of some visits."""

  images: np.ndarray  # [V, S, S, 3] uint8
  ratios: np.ndarray  # the anchor's share of the pixels of each, [V] float32


def mixed_at(experiment: Experiment, visits: Sequence[Visit]) -> Mixed | None:
  """The largest query crop of each visit, mixed as it was; None: nothing is mixed.

  Args:
    experiment: with the run's images.
    visits: with positives of their own.
  """
  config, plan = experiment.config, experiment.view_plan
  if config.mixture.kind not in mixture.MIXTURES or not visits:
    return None
  batches = {visit.step: experiment.stream.step(visit.step, None) for visit in visits}
  own = [(batches[visit.step], visit.row) for visit in visits]
  anchors = np.array([batch.anchors[row] for batch, row in own], np.int64)
  drawn = np.array([visit.positive for visit in visits], np.int64)
  crops, mesh = [], sharding.make_mesh(jax.local_devices()[:1])
  # The first crop of the anchor, and the first of its positive: see `data.cuts`.
  for ids, slot in ((anchors, 0), (drawn, len(plan.crops) + 1)):
    numbers = np.stack([batch.uniforms[row, slot] for batch, row in own])
    turns = [(ids, numbers)]
    crops += crop_batches(mesh, experiment.train, turns, plan.crops[0], len(ids))
  mixed, ratios = _mix(
    *crops,
    np.array([visit.step for visit in visits]),
    np.array([visit.row for visit in visits]),
    seed=config.seed,
    policy=augment_policy(config),
    kind=config.mixture.kind,
    alpha=config.mixture.alpha,
  )
  pixels = np.clip(np.round(np.asarray(mixed) * 255), 0, 255).astype(np.uint8)
  return Mixed(pixels, np.asarray(ratios))


@functools.partial(jax.jit, static_argnames=("seed", "policy", "kind", "alpha"))
def _mix(
  anchors: jax.Array,
  positives: jax.Array,
  steps: jax.Array,
  rows: jax.Array,
  *,
  seed: int,
  policy: Policy,
  kind: str,
  alpha: float,
) -> tuple[jax.Array, jax.Array]:
  """Mixed images, [V, S, S, 3] float32 in [0, 1], and the anchors' shares, [V]."""
  root = rng.stream(jax.random.key(seed), "step")

  def rngs(name: str) -> jax.Array:
    def one(step: jax.Array, row: jax.Array) -> jax.Array:
      of_step = jax.random.fold_in(root, step)
      return jax.random.fold_in(rng.stream(of_step, name), row)

    return jax.vmap(one)(jnp.asarray(steps), jnp.asarray(rows))

  return mixture.mix(
    kind,
    rngs("mixture0"),
    augment(rngs("query0"), anchors, policy),
    augment(rngs("positive0"), positives, policy),
    alpha=alpha,
  )
