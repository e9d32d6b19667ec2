"""Whole runs on CIFAR-10 that live on the device: MoCo v2, then CLIM.

Data are read from DATA/cifar10_{train,test}_jpegbytes.npz: `jpeg`, the bytes of all
images; `offset`, where each begins and the last one ends; `label`.
"""

import dataclasses
import io
import itertools
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from benchmarks.accelerator_phases import cifar_step, programs
from benchmarks.accelerator_phases.crops import Indices, make_batch
from benchmarks.accelerator_phases.phase import Phase, peak_memory_gib
from clim_jax import sharding
from clim_jax.method.state import TrainState
from clim_jax.models.encoder import unit_norm
from clim_jax.models.resnet import feature_dim
from clim_jax.probes.knn import knn_accuracies
from clim_jax.probes.linear import linear_probe
from clim_jax.selection.bank import BankBuilder
from clim_jax.selection.positives import Positives
from clim_jax.selection.refresh import Selection

_CLASSES = 10


class Images(NamedTuple):
  pixels: np.ndarray  # [N, 32, 32, 3] uint8
  labels: np.ndarray  # [N] int32


@dataclasses.dataclass(frozen=True)
class Run:
  """One method on the training images."""

  phase: Phase
  mesh: Mesh
  shape: programs.Shape
  program: programs.Program
  train: Images
  selection: Selection | None
  warmup_epochs: int
  refresh_epochs: int

  @property
  def steps_per_epoch(self) -> int:
    return len(self.train.labels) // self.shape.batch

  def features(self, params: Any, stats: Any, images: Images) -> jax.Array:
    """Unit pooled features of every image, rows sharded, [N_pad, F] float32."""
    encoder = self.program.encoder

    def embed(variables: Any, pixels: jax.Array) -> jax.Array:
      encoded = encoder.apply(variables, pixels.astype(jnp.float32) / 255, train=False)
      return unit_norm(encoded.features)

    builder = BankBuilder(
      self.mesh,
      embed,
      num_images=len(images.labels),
      dim=feature_dim(self.shape.backbone, self.shape.width),
      batch_size=self.phase.sized(2000, 256),
    )
    ids = builder.image_ids()
    mine = sharding.process_rows(self.mesh, ids.shape[1])
    batches = (images.pixels[turn[mine]] for turn in ids)
    return builder({"params": params, "batch_stats": stats}, batches)

  def __call__(self) -> TrainState:
    """Trains to the end; a line of the phase every tenth of the epochs."""
    cut = sharding.spmd(
      make_batch,
      self.mesh,
      in_specs=(sharding.REPLICATED, sharding.ROWS, sharding.REPLICATED),
      out_specs=sharding.ROWS,
    )
    images = jax.device_put(self.train.pixels, sharding.replicated(self.mesh))
    state, positives, step = self.program.state, None, 0
    lap, before = time.perf_counter(), None
    for epoch in range(self.phase.epochs):
      refresh = epoch - self.warmup_epochs
      if self.selection and refresh >= 0 and refresh % self.refresh_epochs == 0:
        positives = self._select(state, epoch, positives)
      for indices in self._indices(epoch, positives):
        batch = cut(images, sharding.put_rows(self.mesh, indices), np.int32(step))
        if before is not None:
          jax.block_until_ready(before)  # so that the host does not run ahead
        state, metrics = self.program.step(state, batch)
        before, step = metrics, step + 1
      if (epoch + 1) % max(self.phase.epochs // 10, 1) == 0:
        loss, now = float(metrics["loss"]), time.perf_counter()
        self._report("epochs", epoch=epoch + 1, loss=loss, seconds=now - lap)
        lap = now
    return jax.block_until_ready(state)

  def _report(self, what: str, **figures: Any) -> None:
    name = "MoCo v2" if self.selection is None else "CLIM"
    self.phase.report(f"{name}, {what}", **figures)

  def _select(
    self, state: TrainState, epoch: int, previous: Positives | None
  ) -> Positives:
    started = time.perf_counter()
    selected = self.selection(
      self.mesh,
      self.features(state.key_params, state.key_stats, self.train),
      num_images=len(self.train.labels),
      epoch=epoch,
      labels=self.train.labels,
      previous=previous,
    )
    seconds = time.perf_counter() - started
    figures = {k: float(v) for k, v in selected.figures.items()}
    self._report("selection", epoch=epoch, seconds=seconds, **figures)
    return selected.positives

  def _indices(self, epoch: int, positives: Positives | None) -> Iterator[Indices]:
    """This process's rows of an epoch's batches."""
    rng = np.random.default_rng((0, epoch))
    order, size = rng.permutation(len(self.train.labels)), self.shape.batch
    mine = sharding.process_rows(self.mesh, size)
    for step in range(self.steps_per_epoch):
      anchors = order[step * size :][:size]
      keys, drawn, has = rng.permutation(size), None, np.zeros(size, bool)
      if positives is not None:
        drawn = positives.draw(anchors, rng.random(size))
        has = positives.count[anchors] > 0
      everything = Indices(
        anchors=anchors,
        positives=drawn,
        key_anchors=anchors[keys],
        key_positives=None if drawn is None else drawn[keys],
        has_positive=has,
        key_row=np.argsort(keys),
        query_row=keys,
      )
      yield jax.tree.map(
        lambda x: x[mine] if x.dtype == bool else x[mine].astype(np.int32), everything
      )

  def judge(self, state: TrainState, test: Images) -> None:
    """kNN and a linear probe of the query encoder's features."""
    train = self.train
    parts = [
      np.array(
        sharding.to_host(self.features(state.query_params, state.query_stats, part))
      )[: len(part.labels)]
      for part in (train, test)
    ]
    sets = (parts[0], train.labels, parts[1], test.labels)
    started = time.perf_counter()
    neighbours = min(200, len(train.labels) // 2)
    (knn,) = knn_accuracies(
      self.mesh, *sets, num_classes=_CLASSES, settings=[(neighbours, 0.1)]
    )
    self._report(
      f"kNN, k = {neighbours}, τ = 0.1",
      top1=knn,
      seconds=time.perf_counter() - started,
    )
    started, regularisers = time.perf_counter(), (1e-6, 1e-5, 1e-4, 1e-3)
    held_out, on_test = linear_probe(
      self.mesh,
      *sets,
      num_classes=_CLASSES,
      regularisers=regularisers,
      max_iterations=100,
      split=tuple(
        np.split(np.arange(len(train.labels)), [len(train.labels) * 9 // 10])
      ),
    )
    best = int(np.argmax(held_out))
    self._report(
      "linear probe",
      top1=on_test[best],
      regulariser=regularisers[best],
      seconds=time.perf_counter() - started,
    )

  def save_and_restore(self, state: TrainState) -> None:
    path = (self.phase.out / f"checkpoint-{int(state.step)}").absolute()
    with ocp.StandardCheckpointer() as checkpointer:
      started = time.perf_counter()
      checkpointer.save(path, state, force=True)
      checkpointer.wait_until_finished()
      saved = time.perf_counter() - started
      started = time.perf_counter()
      abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
      restored = jax.block_until_ready(checkpointer.restore(path, abstract))
      seconds = time.perf_counter() - started
    pairs = zip(jax.tree.leaves(state), jax.tree.leaves(restored), strict=True)
    same = all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)
    self._report("checkpoint", save=saved, restore=seconds, same_bits=same)


def measure(phase: Phase) -> None:
  mesh, (train, test) = sharding.make_mesh(), _read(phase)
  epochs = phase.epochs
  shape = dataclasses.replace(
    cifar_step.shape(phase),
    **dict(temperature=0.1, momentum=0.99, weight_decay=5e-4),
    total_steps=epochs * (len(train.labels) // cifar_step.shape(phase).batch),
  )
  on_cpu = jax.default_backend() == "cpu"
  select = Selection(
    rule="center_wise",
    num_neighbours=phase.sized(40, 10),
    num_centers=phase.sized(200, 10),
    kmeans_iterations=20,
    probes=0,
    seed=0,
    scoring="float32" if on_cpu else "bfloat16",
  )
  for name, selection in (("MoCo v2", None), ("CLIM", select)):
    if not phase.wants(name):
      continue
    with phase.attempt(name):
      program = programs.make_program(mesh, shape)
      warmup, every = phase.sized((10, 5), (1, 1))
      run = Run(phase, mesh, shape, program, train, selection, warmup, every)
      started = time.perf_counter()
      state = run()
      seconds = time.perf_counter() - started
      steps = epochs * run.steps_per_epoch
      phase.report(
        name,
        epochs=epochs,
        batch=shape.batch,
        seconds=seconds,
        images_per_second=steps * shape.batch / seconds,
        peak_memory_gib=peak_memory_gib(),
      )
      run.save_and_restore(state)
      run.judge(state, test)


def _read(phase: Phase) -> tuple[Images, Images]:
  """CIFAR-10; where it is missing, noise if --quick and an error otherwise."""
  counts = phase.sized((50_000, 10_000), (640, 160))
  try:
    found = [
      _decode(phase.data / f"cifar10_{part}_jpegbytes.npz", count)
      for part, count in zip(("train", "test"), counts, strict=True)
    ]
    phase.report("data", source=str(phase.data))
  except FileNotFoundError:
    if not phase.quick:
      raise
    phase.report("data", source="noise")
    found = [_noise(count, seed) for seed, count in enumerate(counts)]
  return tuple(found)


def _decode(path: Any, count: int) -> Images:
  from PIL import Image  # which the other phases do without

  with np.load(path) as data:
    jpeg, offset, label = (data[name] for name in ("jpeg", "offset", "label"))
  pixels = np.stack(
    [
      np.asarray(Image.open(io.BytesIO(jpeg[start:stop].tobytes())).convert("RGB"))
      for start, stop in itertools.pairwise(offset[: count + 1])
    ]
  )
  return Images(pixels, label[:count].astype(np.int32))


def _noise(count: int, seed: int) -> Images:
  rng = np.random.default_rng(seed)
  pixels = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
  return Images(pixels, (np.arange(count) % _CLASSES).astype(np.int32))
