"""Images that are there more than once, exactly or nearly."""

import collections
from collections.abc import Sequence

import jax
import numpy as np

from clim_jax import sharding
from clim_jax.data.sight import Sight
from clim_jax.selection.search.best import NO_NEIGHBOUR
from clim_jax.selection.search.exact import exact_neighbours

# Cosine of the grey levels of thumbnails, without their mean. Of 3,100 photographs no
# two reach it by chance; docs/notebook/copies.md has the figures.
NEAR = 0.97
_FLAT = 2.0  # spread of grey levels, below which a thumbnail shows nothing
_LOOKED_AT = 8  # the nearest of each image


def exact_copies(sights: Sequence[Sight]) -> list[list[int]]:
  """Groups of images of the same pixels, by their places, each in order."""
  groups = collections.defaultdict(list)
  for place, sight in enumerate(sights):
    if not sight.fault:
      groups[sight.pixels_digest].append(place)
  return [group for group in groups.values() if len(group) > 1]


def near_copies(
  sights: Sequence[Sight], copies: Sequence[Sequence[int]]
) -> list[tuple[int, int, float]]:
  """Pairs of images that look the same: shrunk, compressed again, a little brighter.

  Of exact copies the first stands for all. Images without a pattern, such as blank
  pages, are near to none.

  Args:
    sights: of all images.
    copies: what `exact_copies` has found among them.

  Returns:
    (place, later place, cosine), in order.
  """
  later = {place for group in copies for place in group[1:]}
  places = [
    place
    for place, sight in enumerate(sights)
    if not sight.fault and place not in later and sight.thumbnail.std() > _FLAT
  ]
  if len(places) < 2:
    return []
  rows = np.stack([sights[place].thumbnail.ravel() for place in places])
  rows -= rows.mean(axis=1, keepdims=True)
  rows /= np.linalg.norm(rows, axis=1, keepdims=True)
  mesh = sharding.make_mesh(jax.local_devices())
  filling = -len(rows) % mesh.devices.size
  ids = exact_neighbours(
    mesh,
    sharding.put_rows(mesh, np.pad(rows, ((0, filling), (0, 0)))),
    num_images=len(rows),
    num_neighbours=min(_LOOKED_AT, len(rows) - 1),
  )
  ids = sharding.to_host(ids)[: len(rows)]
  pairs = set()
  for others in ids.T:
    cosines = np.einsum("nd,nd->n", rows, rows[others])
    near = np.flatnonzero((cosines >= NEAR) & (others != NO_NEIGHBOUR))
    pairs |= {(min(one, others[one]), max(one, others[one])) for one in near.tolist()}
  return [
    (places[one], places[other], float(rows[one] @ rows[other]))
    for one, other in sorted(pairs)
  ]
