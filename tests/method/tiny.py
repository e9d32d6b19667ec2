"""A step small enough to compile in seconds, and random batches for it."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from clim_jax import sharding
from clim_jax.augment.policy import Policy
from clim_jax.method import optim
from clim_jax.method.batch import Batch
from clim_jax.method.objective import Recipe
from clim_jax.method.state import TrainState, init_state
from clim_jax.method.step import make_replica_step
from clim_jax.models.encoder import Encoder
from clim_jax.models.operations import FOR_CPU

BATCH, SIDE, QUEUE, DIM, TEMPERATURE = 32, 8, 48, 16, 0.2
LEARNING_RATE, MOMENTUM = 0.1, 0.9

PLAIN_POLICY = Policy(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, (0.1, 1.0), 0.0, 0.5, 0.0)
# Random, but without jitter and blur, which would take most of the compile time.
RANDOM_POLICY = Policy(0.0, 0.0, 0.0, 0.0, 0.0, 0.2, 0.0, (0.1, 1.0), 0.2, 0.5, 0.5)


class Setup(NamedTuple):
  encoder: Encoder  # with the groups of one replica's part
  recipe: Recipe
  state: TrainState
  replica_step: object  # one object for all that ask for the same setup


@functools.cache
def setup(
  *, devices: int = 1, groups: int = 8, policy: Policy = RANDOM_POLICY, **changes
) -> Setup:
  recipe = Recipe(
    temperature=TEMPERATURE,
    policy=policy,
    mixture="cutmix",
    alpha=2.0,
    mixed_weight=0.5,
    symmetric=False,
    accumulate_steps=1,
    recompute=False,
  )._replace(**changes)
  encoder = Encoder(
    backbone="resnet_small",
    stem="cifar",
    width=4,
    hidden_dim=32,
    embedding_dim=DIM,
    groups=groups // devices // recipe.accumulate_steps,
    pixel_mean=(0.5, 0.5, 0.5),
    pixel_std=(0.25, 0.25, 0.25),
    operations=FOR_CPU,
    dtype=jnp.float32,
  )
  optimizer = optim.make_optimizer(
    "sgd",
    lambda _: LEARNING_RATE,
    momentum=0.9,
    b1=0.0,
    b2=0.0,
    weight_decay=1e-4,
    decay_all=True,
  )
  init = functools.partial(init_state, side=SIDE, queue_size=QUEUE)
  state = jax.jit(init, static_argnums=(0, 1, 2))(0, encoder, optimizer)
  step = make_replica_step(encoder, optimizer, lambda _: MOMENTUM, recipe, 0)
  return Setup(encoder, recipe, state, step)


def with_queue(state: TrainState, size: int) -> TrainState:
  keys = np.random.default_rng(1).normal(size=(size, DIM)).astype(np.float32)
  keys /= np.linalg.norm(keys, axis=1, keepdims=True)
  return state.replace(queue=state.queue._replace(keys=jnp.asarray(keys)))


def random_batch(
  *, positives: bool = True, sides: tuple[int, ...] = (SIDE,), seed: int = 0
) -> Batch:
  rng = np.random.default_rng(seed)

  def crops(side: int) -> np.ndarray:
    return rng.integers(0, 256, (BATCH, side, side, 3), dtype=np.uint8)

  order = rng.permutation(BATCH).astype(np.int32)
  query, key = tuple(map(crops, sides)), crops(sides[0])
  has_positive = rng.random(BATCH) < 0.7
  positive_query, positive_key = tuple(map(crops, sides)), crops(sides[0])
  return Batch(
    query=query,
    key=key,
    positive_query=positive_query if positives else (),
    positive_key=positive_key if positives else None,
    has_positive=has_positive & positives,
    key_row=np.argsort(order).astype(np.int32),
    query_row=order,
  )


def put(mesh: jax.sharding.Mesh, state: TrainState, batch: Batch) -> tuple:
  """A fresh copy of the state (a step consumes it) and the batch, on the mesh."""
  copy = jax.tree.map(np.asarray, state)
  placed = jax.device_put(copy, sharding.replicated(mesh))
  return placed, sharding.put_rows(mesh, batch)
