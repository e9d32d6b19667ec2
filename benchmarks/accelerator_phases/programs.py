"""A train step and a batch for it, from the method's own parts alone.

No config: ml_collections need not be there, nor what reads images.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from clim_jax import sharding
from clim_jax.augment.policy import Policy
from clim_jax.method import optim
from clim_jax.method.batch import Batch
from clim_jax.method.objective import Recipe
from clim_jax.method.state import TrainState, init_state
from clim_jax.method.step import make_replica_step, make_train_step
from clim_jax.models.encoder import Encoder
from clim_jax.models.operations import operations_for

NOTHING = Policy(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, (0.1, 2.0), 0.0, 0.5, 0.0)
CIFAR = dataclasses.replace(
  NOTHING,
  **dict(jitter_probability=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
  grayscale_probability=0.2,
  flip_probability=0.5,
)
# Jitter and blur take most of a compilation on a CPU.
QUICK = dataclasses.replace(CIFAR, jitter_probability=0.0)
IMAGENET = dataclasses.replace(CIFAR, blur_probability=0.5)


@dataclasses.dataclass(frozen=True)
class Shape:
  """What a step's cost depends on, and the schedule of a run."""

  backbone: str
  stem: str
  sides: tuple[int, ...]
  batch: int
  queue: int
  policy: Policy
  width: int = 64
  hidden: int = 2048
  groups: int = 8
  dtype: str = "auto"  # bfloat16 but on a CPU
  temperature: float = 0.2
  momentum: float = 0.999
  learning_rate: float = 0.03  # for 256 anchors
  weight_decay: float = 1e-4
  warmup_steps: int = 0
  total_steps: int = 1000


class Program(NamedTuple):
  encoder: Encoder  # with the groups of one replica
  step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]
  state: TrainState


def make_program(mesh: Mesh, shape: Shape) -> Program:
  """The mapped step, not yet compiled, and its first state."""
  platform = mesh.devices.flat[0].platform
  dtype = shape.dtype
  if dtype == "auto":
    dtype = "float32" if platform == "cpu" else "bfloat16"
  encoder = Encoder(
    backbone=shape.backbone,
    stem=shape.stem,
    width=shape.width,
    hidden_dim=shape.hidden,
    embedding_dim=128,
    groups=max(1, shape.groups // mesh.devices.size),
    pixel_mean=(0.491, 0.482, 0.447),
    pixel_std=(0.247, 0.243, 0.262),
    operations=operations_for(platform),
    dtype=jnp.dtype(dtype),
  )
  rate = optim.learning_rate_schedule(
    peak=shape.learning_rate * shape.batch / 256,
    warmup_steps=shape.warmup_steps,
    total_steps=shape.total_steps,
  )
  decay = shape.weight_decay
  optimizer = optim.make_optimizer(
    "sgd", rate, momentum=0.9, b1=0.0, b2=0.0, weight_decay=decay, decay_all=True
  )
  recipe = Recipe(
    temperature=shape.temperature,
    policy=shape.policy.for_platform(platform),
    mixture="cutmix",
    alpha=2.0,
    mixed_weight=0.5,
    symmetric=False,
    accumulate_steps=1,
    recompute=False,
  )
  momentum = optim.momentum_schedule("constant", momentum=shape.momentum, total_steps=1)
  step = make_replica_step(encoder, optimizer, momentum, recipe, 0)

  def first_state() -> TrainState:
    return init_state(
      0, encoder, optimizer, side=shape.sides[0], queue_size=shape.queue
    )

  state = jax.jit(first_state, out_shardings=sharding.replicated(mesh))()
  return Program(encoder, make_train_step(mesh, step), state)


def random_batch(shape: Shape, *, positives: bool, seed: int = 0) -> Batch:
  """Noise, on the host; with positives two anchors in three have one."""
  rng = np.random.default_rng(seed)

  def crops(side: int) -> np.ndarray:
    return rng.integers(0, 256, (shape.batch, side, side, 3), dtype=np.uint8)

  order = rng.permutation(shape.batch)
  query, key = tuple(map(crops, shape.sides)), crops(shape.sides[0])
  has_positive = rng.random(shape.batch) < 2 / 3
  return Batch(
    query=query,
    key=key,
    positive_query=tuple(map(crops, shape.sides)) if positives else (),
    positive_key=crops(shape.sides[0]) if positives else None,
    has_positive=has_positive & positives,
    key_row=np.argsort(order).astype(np.int32),
    query_row=order.astype(np.int32),
  )


def run_steps(
  step: Callable[..., Any], state: TrainState, batch: Batch, count: int
) -> TrainState:
  """So many steps on one batch, until the last is done."""
  for _ in range(count):
    state, metrics = step(state, batch)
  jax.block_until_ready((state, metrics))
  return state
