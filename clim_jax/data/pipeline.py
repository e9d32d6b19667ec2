"""tf.data pipelines from image ids to batches of crops.

Arrays in memory are cropped a batch at a time. Encoded images are fetched a batch
at a time, then each is decoded once for all its crops, in parallel.
"""

import collections
import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

import joblib
import numpy as np
import tensorflow as tf

from clim_jax.data.boxes import boxes
from clim_jax.data.crops import UNIFORMS, Crop
from clim_jax.data.cuts import Cut, Element, TrainCuts, ViewPlan
from clim_jax.data.decode import decode_crops
from clim_jax.data.encoded import EncodedSource, NoTextError, ReadError
from clim_jax.data.index_stream import IndexStream, StepIndices
from clim_jax.data.replay import Replay
from clim_jax.data.resize import resize_crops
from clim_jax.data.source import ArraySource, Source, with_stand_ins
from clim_jax.method.batch import Batch
from clim_jax.selection.positives import Positives

# JAX owns the accelerators; TensorFlow only reads and crops.
tf.config.set_visible_devices([], "GPU")

_PREFETCH = 2  # batches ready ahead of the step
# Some always wait for others: measured in docs/notebook/performance.md.
_THREADS_A_CORE = 2


def train_batches(
  source: Source,
  stream: IndexStream,
  plan: ViewPlan,
  *,
  first_step: int,
  last_step: int,
  positives: Positives | None,
  rows: slice,
) -> Iterator[Batch]:
  """This process's rows of the batches of steps first_step … last_step − 1.

  Args:
    source: the training images.
    stream: which images each step shows.
    plan: which crops are cut.
    positives: the table to draw from; None gives batches of plain MoCo v2.
    rows: this process's rows of each global batch.

  Raises:
    BadImageError: an image cannot be decoded and is not to be skipped; names it.
  """
  cuts = TrainCuts(
    plan, positives is not None, whole=rows == slice(0, stream.batch_size)
  )
  in_flight: collections.deque[StepIndices] = collections.deque()

  def elements() -> Iterator[Element]:
    for step in range(first_step, last_step):
      indices = stream.step(step, positives)
      in_flight.append(indices)
      yield cuts.element(indices, rows)

  for crops in _crop_batches(source, elements(), cuts.cuts, rows.stop - rows.start):
    yield Batch(**cuts.fields(crops), **in_flight.popleft().places(rows))


def crop_batches(
  source: Source,
  turns: Iterable[tuple[np.ndarray, np.ndarray]],
  crop: Crop,
  batch_size: int,
) -> Iterator[np.ndarray]:
  """One crop of each image, [b, S, S, 3] uint8 a turn.

  Args:
    source: the images.
    turns: image ids, [b] int64, and the numbers a random crop consumes,
      [b, UNIFORMS] float32.
    crop: what to cut.
    batch_size: b.
  """
  order = np.arange(batch_size)
  elements = (Element(ids[:, None], numbers[:, None], order) for ids, numbers in turns)
  for (images,) in _crop_batches(source, elements, [Cut(0, crop)], batch_size):
    yield images


def _crop_batches(
  source: Source, elements: Iterator[Element], cuts: Sequence[Cut], batch_size: int
) -> Iterator[tuple[np.ndarray, ...]]:
  """A batch of each cut for every element; goes on with stand-ins for bad images."""
  queue = Replay(elements)
  with _pipeline(source, tuple(cuts), batch_size) as pipeline:
    while True:
      try:
        for batch in pipeline.run(queue.hand_out):
          queue.done()
          yield batch
        return
      except (ReadError, NoTextError):
        # Nothing is under way if it was the ids themselves that could not be had.
        under_way = queue.take_back()
        if not under_way or isinstance(source, ArraySource):
          raise
        if not source.replace_bad(under_way[0].ids):
          raise


class _Pipeline:
  """Batches of the same crops, of one run of elements after another."""

  def __init__(self, source: Source, cuts: Sequence[Cut], batch_size: int) -> None:
    # What it is called for is looked up at the beginning of each run.
    self._dataset = _dataset(source, lambda: self._elements(), cuts, batch_size)

  def run(self, elements: Callable[[], Iterator[Element]]) -> Iterator[tuple]:
    """One run at a time: a new one begins where the one before is given up."""
    self._elements = elements
    return self._dataset.as_numpy_iterator()


@contextlib.contextmanager
def _pipeline(
  source: Source, cuts: tuple[Cut, ...], batch_size: int
) -> Iterator[_Pipeline]:
  """Of files one that is idle, if there is one.

  To make one takes time, and leaves memory behind that TensorFlow does not give back.
  """
  if isinstance(source, ArraySource):  # whose pipelines hold all of them
    yield _Pipeline(source, cuts, batch_size)
    return
  idle = source.idle_pipelines.setdefault((cuts, batch_size), [])
  pipeline = idle.pop() if idle else _Pipeline(source, cuts, batch_size)
  try:
    yield pipeline
  finally:
    idle.append(pipeline)


def _dataset(
  source: Source,
  elements: Callable[[], Iterator[Element]],
  cuts: Sequence[Cut],
  batch_size: int,
) -> tf.data.Dataset:
  """Batches of crops, a tuple in the order of `cuts`."""
  signature = Element(
    tf.TensorSpec((batch_size, 1 + max(cut.image for cut in cuts)), tf.int64),
    tf.TensorSpec((batch_size, len(cuts), UNIFORMS), tf.float32),
    tf.TensorSpec((batch_size,), tf.int64),
  )

  def generate() -> Iterator[Element]:
    for element in elements():
      yield element._replace(ids=with_stand_ins(source, element.ids))

  dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
  if isinstance(source, ArraySource):
    crops = _array_crops(source, cuts)
    dataset = dataset.map(
      lambda element: (element.key_order, crops(element.ids, element.uniforms)),
      num_parallel_calls=tf.data.AUTOTUNE,
    )
  else:
    dataset = dataset.map(
      lambda element: element._replace(ids=source.fetch(element.ids)),
      num_parallel_calls=2,
    ).unbatch()
    crops = _encoded_crops(source, cuts)
    dataset = dataset.map(
      lambda element: (element.key_order, crops(element.ids, element.uniforms)),
      num_parallel_calls=tf.data.AUTOTUNE,
    ).batch(batch_size, drop_remainder=True)

  def order_keys(order: tf.Tensor, crops: tuple[tf.Tensor, ...]) -> tuple:
    return tuple(
      tf.gather(crop, order) if cut.in_key_order else crop
      for crop, cut in zip(crops, cuts, strict=True)
    )

  options = tf.data.Options()
  # Images are worked on side by side: to cut one's operations up as well costs time.
  options.threading.max_intra_op_parallelism = 1
  # Of the cores that this process may use: a container may have few of many.
  options.threading.private_threadpool_size = _THREADS_A_CORE * joblib.cpu_count()
  dataset = dataset.map(order_keys, num_parallel_calls=2).prefetch(_PREFETCH)
  return dataset.with_options(options)


def _array_crops(
  source: ArraySource, cuts: Sequence[Cut]
) -> Callable[..., tuple[tf.Tensor, ...]]:
  # In memory once, outside the graph, which may not hold more than 2 GiB.
  images = tf.constant(source.images)
  height, width = source.images.shape[1:3]

  def crop(ids: tf.Tensor, uniforms: tf.Tensor) -> tuple[tf.Tensor, ...]:
    size = tf.ones_like(ids[:, 0], tf.int32)
    out = []
    for slot, cut in enumerate(cuts):
      box = boxes(cut.crop, uniforms[:, slot], size * height, size * width)
      chosen = tf.gather(images, ids[:, cut.image])
      out.append(resize_crops(chosen, box, cut.crop.side))
    return tuple(out)

  return crop


def _encoded_crops(
  source: EncodedSource, cuts: Sequence[Cut]
) -> Callable[..., tuple[tf.Tensor, ...]]:
  slots = collections.defaultdict(list)  # of each image
  for slot, cut in enumerate(cuts):
    slots[cut.image].append(slot)

  def crop(strings: tf.Tensor, uniforms: tf.Tensor) -> tuple[tf.Tensor, ...]:
    out = {}
    for image, own in slots.items():
      decode = _decoding(
        tuple(cuts[slot].crop for slot in own), source.white, source.max_pixels
      )
      numbers = tf.gather(uniforms, own)
      out |= zip(own, decode(source.load(strings[image]), numbers), strict=True)
    return tuple(out[slot] for slot in range(len(cuts)))

  return crop


@functools.cache
def _decoding(
  crops: tuple[Crop, ...], white: int, max_pixels: int
) -> Callable[..., tuple]:
  """`decode_crops` as one graph for all images and epochs: it takes long to make."""

  def decode(encoded: tf.Tensor, uniforms: tf.Tensor) -> tuple[tf.Tensor, ...]:
    return decode_crops(encoded, crops, uniforms, white, max_pixels)

  string, numbers = tf.TensorSpec((), tf.string), (len(crops), UNIFORMS)
  signature = (string, tf.TensorSpec(numbers, tf.float32))
  return tf.function(decode, input_signature=signature, autograph=False)
