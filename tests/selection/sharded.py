"""Banks with padding, mapped over a few of the emulated devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from clim_jax import sharding
from clim_jax.selection import kmeans
from clim_jax.selection.search import exact


def mesh(devices):
  return sharding.make_mesh(jax.devices()[:devices])


def unit_rows(seed, rows, dim):
  x = np.random.default_rng(seed).normal(size=(rows, dim))
  return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def pad(bank, devices, *, spare=0):
  """Rows for every device, `spare` more than needed; padding repeats the bank.

  Copies of real rows are the most tempting neighbours and members there can be.
  """
  rows = (-(-len(bank) // devices) + spare) * devices
  return np.resize(bank, (rows, bank.shape[1]))


def search(bank, devices, count, *, spare=0, scoring="float32"):
  """Neighbours of the real rows, [N, M]."""
  rows = jnp.asarray(pad(bank, devices, spare=spare))
  ids = exact.exact_neighbours(
    mesh(devices), rows, num_images=len(bank), num_neighbours=count, scoring=scoring
  )
  return np.asarray(ids)[: len(bank)]


def cluster(
  bank, devices, num_centers, iterations, *, rng=None, padded=None, centers=None
):
  """The clustering of the real rows, as NumPy arrays.

  `padded` replaces `pad`, `centers` the seeds.
  """
  blocks = (kmeans._ROWS, kmeans._CENTERS)
  start = jax.random.key(0) if rng is None else rng
  if centers is None:
    mapped = _cluster(devices, len(bank), num_centers, iterations, blocks)
  else:
    start, mapped = centers, _lloyd(devices, len(bank), iterations, blocks)
  padded = pad(bank, devices) if padded is None else padded
  out = [np.asarray(x) for x in mapped(start, padded)]
  return kmeans.Clustering(out[0], out[1][: len(bank)], out[2][: len(bank)])


# Compiling takes most of the time; the block sizes belong to what is compiled.
@functools.cache
def _cluster(devices, images, centers, iterations, blocks):
  return _mapped(
    devices,
    functools.partial(
      kmeans.spherical_kmeans,
      num_images=images,
      num_centers=centers,
      iterations=iterations,
    ),
  )


@functools.cache
def _lloyd(devices, images, iterations, blocks):
  return _mapped(
    devices,
    lambda centers, bank: kmeans.lloyd(
      bank, centers, num_images=images, iterations=iterations
    ),
  )


def _mapped(devices, find):
  rows, replicated = sharding.ROWS, sharding.REPLICATED
  return sharding.spmd(
    find,
    mesh(devices),
    in_specs=(replicated, rows),
    out_specs=kmeans.Clustering(replicated, rows, rows),
  )
