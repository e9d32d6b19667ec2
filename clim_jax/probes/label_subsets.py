"""Which labels an evaluation may use: draws by seed, or published lists."""

from collections.abc import Callable, Sequence

import numpy as np


def class_balanced_subset(
  labels: np.ndarray, *, num_classes: int, labels_per_class: int, seed: int
) -> np.ndarray:
  """Draws the same number of rows from every class, without replacement.

  Args:
    labels: [N] int32 in [0, num_classes).
    num_classes: number of classes.
    labels_per_class: rows drawn from each class.
    seed: of the draw.

  Returns:
    Distinct row ids, class after class, [num_classes * labels_per_class] int64.

  Raises:
    ValueError: a class has fewer rows than are to be drawn.
  """
  generator = np.random.default_rng(seed)
  drawn = []
  for label in range(num_classes):
    rows = np.flatnonzero(labels == label)
    if len(rows) < labels_per_class:
      raise ValueError(
        f"class {label} has {len(rows)} rows, fewer than labels_per_class"
        f" {labels_per_class}: lower `labels_per_class` or give the class more rows"
      )
    drawn.append(generator.choice(rows, labels_per_class, replace=False))
  return np.concatenate(drawn).astype(np.int64)


def fraction_subset(
  labels: np.ndarray, *, num_classes: int, fraction: float, seed: int
) -> np.ndarray:
  """A share of the rows, [n] int64: equally many of every class, at least one.

  A class that is smaller than that gives all it has. A share of 1 is every row.
  """
  if fraction >= 1:
    return np.arange(len(labels))
  per_class = max(1, round(fraction * len(labels) / num_classes))
  generator = np.random.default_rng(seed)
  drawn = []
  for label in range(num_classes):
    rows = np.flatnonzero(labels == label)
    drawn.append(generator.permutation(rows)[:per_class])
  return np.concatenate(drawn)


def listed_subset(
  listed: Sequence[str], num_images: int, name: Callable[[int], str]
) -> np.ndarray:
  """Ids of the images whose file names a list has, in its order, [n] int64.

  Args:
    listed: file names, as in SimCLR's `1percent.txt`, or CLASS/FILE; empty lines are
      passed over.
    num_images: of the source.
    name: of an image, such as its path.

  Raises:
    ValueError: names that no image has, or none at all, says how many and the first;
      or two images of one name.
  """
  wanted = [line.strip() for line in listed if line.strip()]
  depth = wanted[0].count("/") + 1 if wanted else 1
  ids: dict[str, int] = {}
  for image in range(num_images):
    file = "/".join(name(image).split("/")[-depth:])
    if ids.setdefault(file, image) != image:
      raise ValueError(
        f"{name(ids[file])} and {name(image)} are both {file!r}, which the list cannot "
        "tell apart: list names with their folders, CLASS/FILE"
      )
  missing = [file for file in wanted if file not in ids]
  if missing or not wanted:
    raise ValueError(
      f"{len(missing)} of {len(wanted)} listed files are not among the {num_images} "
      f"training images, the first {missing[:3]}; images have names such as "
      f"{name(0)!r}: the list must be of this data set, and the data a folder"
    )
  return np.asarray([ids[file] for file in wanted], np.int64)
