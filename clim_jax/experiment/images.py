"""Which images a run is trained on, so that a later session has the same."""

import gzip
import hashlib
import os
import zlib

import numpy as np
from etils import epath

from clim_jax.data.source import ArraySource, Source
from clim_jax.experiment.error import ConfigError
from clim_jax.whole import written_whole

FILE = "images.txt.gz"  # in a workdir
_SHOWN = 3  # names in a message
_SAMPLED = 64  # images whose bytes are looked at


def list_images(source: Source) -> list[str]:
  """A line an image: its name below the folder they share; of an array its digest.

  Some, spread over all, have the digest of their bytes after a tab: whoever makes all
  images anew, at another size or quality, changes those too.
  """
  if isinstance(source, ArraySource):
    digest = hashlib.blake2b(source.images.tobytes(), digest_size=16).hexdigest()
    return [f"array {source.images.shape} {digest}"]
  names = [source.name(image) for image in range(source.num_images)]
  folder = os.path.commonpath([os.path.dirname(name) for name in names])
  lines = [name.removeprefix(folder).lstrip("/") for name in names]
  for image in np.unique(np.linspace(0, len(names) - 1, _SAMPLED).astype(int)).tolist():
    digest = hashlib.blake2b(source.encoded(image).numpy(), digest_size=8).hexdigest()
    lines[image] += f"\t{digest}"
  return lines


def check_same(source: Source, path: epath.Path) -> None:
  """Raises ConfigError if these are not the images of the list in `path`."""
  kept, given = _read(path), list_images(source)
  if all("\t" not in line for line in kept):  # an older version looked at names alone
    given = [line.split("\t")[0] for line in given]
  if given == kept:
    return
  names = [[line.split("\t")[0] for line in lines] for lines in (given, kept)]
  if names[0] == names[1]:
    changed = [line.split("\t")[0] for line in given if line not in set(kept)]
    raise ConfigError(
      f"images have other contents than when the run began: {len(changed)} of some "
      f"{_SAMPLED} looked at ({', '.join(changed[:_SHOWN])}); bring back the same "
      "ones, or begin anew with another --workdir"
    )
  given, kept = names
  told = [
    f"{len(names)} {what} ({', '.join(sorted(names)[:_SHOWN])}"
    f"{', …' if len(names) > _SHOWN else ''})"
    for what, names in (
      ("added", set(given) - set(kept)),
      ("missing", set(kept) - set(given)),
    )
    if names
  ]
  raise ConfigError(
    f"these are not the images that the run began with: {' and '.join(told)}; "
    "positives are kept by the number of an image, so bring back the same ones, or "
    "begin anew with another --workdir"
  )


def _read(path: epath.Path) -> list[str]:
  """The names in a list; raises ConfigError if it is damaged."""
  try:
    names = gzip.decompress(path.read_bytes()).decode().splitlines()
    if not names:
      raise ValueError("it is empty")
  except (EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
    raise ConfigError(
      f"{path} is damaged ({error}): remove it if the images are those that the run "
      "began with; it is written anew"
    ) from error
  return names


def save(source: Source, path: epath.Path) -> None:
  """Writes the list, unless there is one."""
  if path.exists():
    return
  text = "".join(f"{line}\n" for line in list_images(source))
  with written_whole(path) as beside:
    beside.write_bytes(gzip.compress(text.encode(), mtime=0))
