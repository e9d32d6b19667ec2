"""A config's step and its augmentation, lowered for devices that are not there."""

import types
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from clim_jax import sharding
from clim_jax.augment.apply import augment
from clim_jax.configs import base
from clim_jax.experiment import limits
from clim_jax.experiment.experiment import Experiment
from clim_jax.plan import programs

_IMAGENET = 1_281_167


def lower_step(
  config: ConfigDict, mesh: Mesh, batch_per_chip: int
) -> jax.stages.Lowered:
  """The train step of a config, with positives if the config selects any."""
  devices = mesh.devices.size
  config = config.copy_and_resolve_references()
  config.batch_size = batch_per_chip * devices
  config.model.batch_norm_groups = devices
  config.model.dtype = "bfloat16"  # "auto" would ask the machine that compiles
  source = types.SimpleNamespace(num_images=_IMAGENET)
  experiment = Experiment(config, mesh, source, None)
  mixed = config.selection.rule != "none"
  state = programs.abstract_state(experiment)
  batch = programs.abstract_batch(experiment, mixed=mixed)
  return experiment.train_step().lower(state, batch)


def lower_augmentation(
  mesh: Mesh, *, batch_per_chip: int, side: int, **changes: Any
) -> jax.stages.Lowered:
  """MoCo v2's photometric augmentation of one view, rounded to bfloat16.

  Args:
    changes: of the section `augment` of the config.
  """
  config = base.get_config()
  config.augment.update(changes)
  policy = limits.augment_policy(config)

  def view(rngs: jax.Array, images: jax.Array) -> jax.Array:
    return augment(rngs, images, policy).astype(jnp.bfloat16)

  rows = batch_per_chip * mesh.devices.size
  rngs = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))
  images = jax.ShapeDtypeStruct((rows, side, side, 3), jnp.uint8)
  mapped = sharding.spmd(
    view, mesh, in_specs=(sharding.ROWS, sharding.ROWS), out_specs=sharding.ROWS
  )
  return mapped.lower(*programs.placed(mesh, (rngs, images), sharding.ROWS))
