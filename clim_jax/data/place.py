"""Where crops are cut: on the devices, if the images are an array that fits there."""

from typing import NamedTuple

import jax
from jax.sharding import Mesh

from clim_jax.data.source import ArraySource, Source
from clim_jax.devices import device_memory

# Of a device's memory, that an array may take by `auto`: the step wants the rest, and
# an evaluation has a second array, of test images.
_SHARE = 1 / 8


class Place(NamedTuple):
  on_device: bool
  why: str


def place_of(source: Source, mesh: Mesh) -> Place:
  """Where the crops of these images are cut, and why."""
  if not isinstance(source, ArraySource):
    return Place(False, "images are decoded there")
  if not set(mesh.devices.flat) <= set(jax.devices()):
    return Place(False, "programs are compiled for devices that are not there")
  if source.crops != "auto":
    return Place(source.crops == "device", f"data.crops={source.crops}")
  size = source.images.nbytes
  memory = min(map(device_memory, mesh.local_devices))
  fits = size <= _SHARE * memory
  return Place(
    fits,
    f"all images, {size / 2**20:,.1f} MiB, are {'at most' if fits else 'more than'} "
    f"{_SHARE:.1%} of a device's {memory / 2**30:,.1f} GiB",
  )


def is_on_device(source: Source, mesh: Mesh) -> bool:
  return place_of(source, mesh).on_device
