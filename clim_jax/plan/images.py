"""How many images there are to train on, and of which classes."""

import collections

import numpy as np

from clim_jax.data.source import NO_LABEL, ArraySource, Source
from clim_jax.experiment.images import list_images


def count_classes(source: Source) -> dict[str, int]:
  """Images of each class, by its folder's name or its number; {} without labels."""
  labels = source.labels()
  if labels is None:
    return {}
  names, firsts, counts = np.unique(labels, return_index=True, return_counts=True)
  called = [str(name) for name in names]
  if not isinstance(source, ArraySource):
    paths = list_images(source)
    folders = [paths[first].rpartition("/")[0].partition("/")[0] for first in firsts]
    if all(folders) and len(set(folders)) == len(folders):
      called = folders
  found: dict[str, int] = collections.OrderedDict()
  for name, label, count in zip(called, names, counts, strict=True):
    found["without a label" if label == NO_LABEL else name] = int(count)
  return dict(found)
