"""Whether a run learns, told from its records, with the keys to change if not."""

import math
from collections.abc import Sequence

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from clim_jax.pretrain.records import Record, read_records

_EARLY = 0.25  # share of the run in which nothing is told: much still changes there
_LOOKS = 100  # at the records, in a run
_RISE = 0.25  # of the way from the least loss back to chance
_NEAR = 0.05  # of what a loss can fall below chance; also a contrast accuracy
_COLLAPSED = 0.1  # spread of the embeddings
_FEW_STEPS = 2000  # where something is wrong
_KEPT = ("step", "epoch", "learning_rate", "plain_loss", "contrast_accuracy")
_KEPT += ("embedding_spread",)


def chance_loss(queue_size: int) -> float:
  """InfoNCE where the key cannot be told from those of the queue: log(1 + Q)."""
  return math.log(1 + queue_size)


def symptoms(
  records: Sequence[Record],
  *,
  epochs: int,
  batch_size: int,
  queue_size: int,
  temperature: float,
) -> dict[str, str]:
  """What is wrong with a run by its records so far, a line by its kind.

  Losses are those of plain views: the mixed part comes late, and is higher.

  Args:
    records: those of metrics.jsonl, in their order.
    epochs: of the whole run.
    batch_size: anchors a step.
    queue_size: Q.
    temperature: τ.
  """
  # While the queue is filled with the first keys, which are alike, the loss must rise.
  filled = 4 * queue_size / batch_size
  seen = [r for r in records if r["step"] > filled and "plain_loss" in r]
  if not seen or seen[-1]["epoch"] < _EARLY * epochs:
    return {}
  window = max(1, len(seen) // 20)
  loss = _smooth([record["plain_loss"] for record in seen], window)
  rate = [record["learning_rate"] for record in seen][window - 1 :]
  accuracy = _smooth([record["contrast_accuracy"] for record in seen], window)[-1]
  chance, best, found = chance_loss(queue_size), int(np.argmin(loss)), {}
  now = f"{loss[-1]:.2f} (chance {chance:.2f})"

  way_back = max(chance - loss[best], _NEAR * chance)
  if loss[-1] - loss[best] > _RISE * way_back and rate[-1] < max(rate[best:]):
    found["rising"] = (
      f"the plain loss fell to {loss[best]:.2f} and has risen to {now} while the "
      "learning rate falls: keys may be told apart by their age and not by what "
      "they show; lower optimizer.learning_rate or moco.queue_size, or raise "
      "moco.temperature"
    )
  reach = min(chance, 1 / temperature)  # no loss falls further below chance
  guessing = 1 / (1 + queue_size)
  if accuracy < max(_NEAR, 2 * guessing) or chance - loss[-1] < _NEAR * reach:
    found["near_chance"] = (
      f"{accuracy:.1%} of images are told from the {queue_size} of the queue, guessing "
      f"{guessing:.1%}, and the plain loss is {now}: hardly anything is learnt; change "
      "optimizer.learning_rate or moco.temperature, or use weaker crops "
      "(views.min_scales)"
    )
  spread = _smooth([record["embedding_spread"] for record in seen], window)[-1]
  if spread < _COLLAPSED:
    found["collapsed"] = (
      f"all images have nearly the same embedding: spread {spread:.2f}, where 1 is all "
      "around and 0 one point; lower optimizer.learning_rate or raise batch_size"
    )
  steps = round(seen[-1]["step"] / seen[-1]["epoch"] * epochs)
  if found and steps < _FEW_STEPS:
    found["few_steps"] = (
      f"the run has {steps} steps, which may be too few: try more epochs, more images "
      "or a smaller batch_size"
    )
  return found


def _smooth(values: Sequence[float], window: int) -> np.ndarray:
  """Means over a sliding window."""
  return np.convolve(values, np.full(window, 1 / window), mode="valid")


def findings_of(workdir: epath.Path, config: ConfigDict) -> list[str]:
  """The symptoms that the log of a run shows; none without a log."""
  records = read_records(workdir / "metrics.jsonl").readable
  return list(_symptoms(records, config).values())


def _symptoms(records: Sequence[Record], config: ConfigDict) -> dict[str, str]:
  return symptoms(
    records,
    epochs=config.epochs,
    batch_size=config.batch_size,
    queue_size=config.moco.queue_size,
    temperature=config.moco.temperature,
  )


class Learning:
  """Watches a run while it goes on."""

  def __init__(self, config: ConfigDict, records: Sequence[Record]) -> None:
    """`records` are those of earlier sessions; what they show has been said."""
    self._config = config
    self._records = [_condensed(record) for record in records]
    self._told = set(_symptoms(self._records, config))
    self._next_look = 0.0  # epoch

  def add(self, record: Record) -> list[str]:
    """What is to be said after one more record; each kind once."""
    self._records.append(_condensed(record))
    if record["epoch"] < self._next_look:
      return []
    self._next_look = record["epoch"] + self._config.epochs / _LOOKS
    found = _symptoms(self._records, self._config)
    new = [text for kind, text in found.items() if kind not in self._told]
    self._told |= set(found)
    return new


def _condensed(record: Record) -> Record:
  return {key: record[key] for key in _KEPT if key in record}
