"""Image files of strangers: mutated ones are skipped by name, and nothing crashes.

The bytes of good JPEG, PNG and WebP files are flipped, cut, doubled, exchanged, and
numbers in their headers made large. A folder of them goes through the pipeline that
training reads. A mutant may decode to something; what counts is that every batch
arrives, and that every file whose pixels were replaced is named.
"""

import io
import logging
import pathlib
import random
from collections.abc import Callable

import numpy as np
from absl import logging as absl_logging
from PIL import Image

from benchmarks.fault_families.family import Family
from clim_jax.data.crops import UNIFORMS, CenterCrop
from clim_jax.data.pipeline import crop_batches
from clim_jax.data.sources import folder_source

_FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
_AT_ONCE = 200  # files in a folder
_BATCH = 20
_CROP = CenterCrop(8, 1.0)


def pictures(family: Family) -> None:
  """Reports a trial for each mutated file."""
  rng = random.Random(0)
  for turn in range(family.sized(2400, 200) // _AT_ONCE):
    folder = family.scratch / str(turn)
    folder.mkdir()
    mutants = {}
    for number in range(_AT_ONCE):
      extension = rng.choice(list(_FORMATS))
      name, mutate = rng.choice(list(_MUTATIONS.items()))
      file = folder / f"{number:03}_{name}.{extension}"
      file.write_bytes(mutate(_picture(rng, _FORMATS[extension]), rng))
      mutants[file.name] = f"{turn}/{file.name}"
    (folder / "good.png").write_bytes(_picture(rng, "PNG"))
    _read(family, folder, mutants)


def _read(family: Family, folder: pathlib.Path, mutants: dict[str, str]) -> None:
  """Reads a folder as training does.

  Args:
    family: which is told of each mutant.
    folder: with all of them.
    mutants: how each file's trial is called, by its name.
  """
  said = io.StringIO()
  handler = logging.StreamHandler(said)
  absl_logging.get_absl_logger().addHandler(handler)
  source, paths = folder_source(str(folder), on_bad_image="skip")
  ids = np.resize(np.arange(len(paths)), (-(-len(paths) // _BATCH), _BATCH))
  nothing = np.zeros((_BATCH, UNIFORMS), np.float32)
  lost = ""
  try:
    shapes = [
      images.shape
      for images in crop_batches(
        source, ((turn, nothing) for turn in ids), _CROP, _BATCH
      )
    ]
    if shapes != [(_BATCH, 8, 8, 3)] * len(ids):
      lost = f"{len(shapes)} of {len(ids)} batches"
  except Exception as error:
    lost = f"{type(error).__name__}: {str(error)[:300]}"
  finally:
    absl_logging.get_absl_logger().removeHandler(handler)
  for image, path in enumerate(paths):
    name = path.rsplit("/", 1)[-1]
    if name not in mutants:
      continue
    skipped = image in source.stand_ins
    unnamed = "skipped and not named" if skipped and path not in said.getvalue() else ""
    family.report(mutants[name], lost or unnamed, skipped=skipped)


def _picture(rng: random.Random, kind: str) -> bytes:
  side = rng.choice((9, 16, 33))
  pixels = np.random.default_rng(rng.getrandbits(32)).integers(
    0, 256, (side, side + 3, 3), dtype=np.uint8
  )
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, kind)
  return out.getvalue()


def _flip(data: bytes, rng: random.Random) -> bytes:
  out = bytearray(data)
  for _ in range(rng.choice((1, 4, 32))):
    out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
  return bytes(out)


def _flip_header(data: bytes, rng: random.Random) -> bytes:
  out = bytearray(data)
  for _ in range(rng.choice((1, 3))):
    out[rng.randrange(min(64, len(out)))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
  return bytes(out)


def _cut(data: bytes, rng: random.Random) -> bytes:
  return data[: rng.randrange(len(data))]


def _cut_out(data: bytes, rng: random.Random) -> bytes:
  low, high = sorted(rng.sample(range(len(data)), 2))
  return data[:low] + data[high:]


def _double(data: bytes, rng: random.Random) -> bytes:
  low, high = sorted(rng.sample(range(len(data)), 2))
  return data[:high] + data[low:]


def _exchange(data: bytes, rng: random.Random) -> bytes:
  other = _picture(rng, rng.choice(list(_FORMATS.values())))
  at = rng.randrange(1, len(data))
  return data[:at] + other[at:]


def _enlarge(data: bytes, rng: random.Random) -> bytes:
  """Large numbers where a header has the size; what is behind it stays."""
  out = bytearray(data)
  at = {b"\x89PNG": 16, b"RIFF": 26}.get(data[:4], data.find(b"\xff\xc0") + 5)
  for offset in range(at, min(at + 8, len(out))):
    if rng.random() < 0.5:
      out[offset] = rng.choice((0x7F, 0xFF))
  return bytes(out)


def _stub(data: bytes, rng: random.Random) -> bytes:
  """A beginning that tells the format, and no image: libraries may quote the rest."""
  return data[: rng.randrange(4, 30)] + rng.choice((b"", b" no image", b"\xff\xfe\0"))


def _of_another_kind(data: bytes, rng: random.Random) -> bytes:
  return rng.choice((b"", b"\0" * 100, b"%PDF-1.4\n", b"<svg/>", data[::-1]))


_MUTATIONS: dict[str, Callable[[bytes, random.Random], bytes]] = {
  "flip": _flip,
  "flip_header": _flip_header,
  "cut": _cut,
  "cut_out": _cut_out,
  "double": _double,
  "exchange": _exchange,
  "enlarge": _enlarge,
  "stub": _stub,
  "of_another_kind": _of_another_kind,
}
