"""Packed sets to a folder of image files, which can be read in any order."""

import collections
import io
import os
import pathlib
import shutil
import tempfile
import warnings

from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.progress import track

from clim_jax.data.size import MOST_PIXELS
from clim_jax.experiment.error import ConfigError
from clim_jax.sets.arrow import open_arrow
from clim_jax.sets.pack import Pack, PackError, Part
from clim_jax.sets.tars import open_tars
from clim_jax.sets.tfrecords import open_build

_EXTENSIONS = {
  "JPEG": "jpg",
  "MPO": "jpg",
  "TIFF": "tif",
  "JPEG2000": "jp2",
  "PPM": "ppm",
}
_KNOWN = "Hugging Face's save_to_disk, parquet, WebDataset's tar, a TFDS build"
_UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError)
_NO_IMAGE = "?"  # counted so; no class is called so once it is safe
# In a class's name all else is written as %XX, so that no two fall together.
_PLAIN = " .-_,()&+'"


def convert(source: str, output: str, console: Console) -> None:
  """Writes each image of a packed set as a file, OUTPUT/PART/CLASS/NUMBER.EXTENSION.

  The bytes of an image are kept. Its number is its place in its part; an image without
  a label lies beside the class folders.

  Args:
    source: a folder or file of one of the kinds that are known.
    output: a folder that is not there yet, or empty.
    console: shows how far it is, and what there is at the end.

  Raises:
    ConfigError: it is none of the kinds, or cannot be read, or the output is there.
  """
  if not os.path.exists(source):
    raise ConfigError(f"--input: there is no {source!r}")
  if os.path.exists(output) and (not os.path.isdir(output) or os.listdir(output)):
    raise ConfigError(f"--output {output} is there already: give another")
  target = pathlib.Path(output).absolute()
  target.parent.mkdir(parents=True, exist_ok=True)
  # Beside, and renamed at the end: a half of a set looks like a whole one.
  beside = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
  try:
    pack = _open(source)
    written = {
      name: _write(part, beside / _safe(name), name, console)
      for name, part in pack.parts.items()
    }
    beside.chmod(0o755)  # a temporary folder is its owner's alone
    beside.replace(target)
  except (OSError, ValueError, LookupError) as error:
    raise ConfigError(f"--input {source}: {error}") from error
  finally:
    shutil.rmtree(beside, ignore_errors=True)
  _tell(pack, written, output, console)


def _open(source: str) -> Pack:
  for opened in (open_build, open_arrow, open_tars):
    pack = opened(source)
    if pack is not None:
      return pack
  raise PackError(f"none of the packed sets that are known: {_KNOWN}")


def _write(
  part: Part, folder: pathlib.Path, name: str, console: Console
) -> collections.Counter[str]:
  """Writes a part; how many images there are by label, and under "?" of no format."""
  counts: collections.Counter[str] = collections.Counter()
  folder.mkdir()
  shown = {"console": console, "transient": True, "disable": not console.is_terminal}
  records = track(part.records(), name, total=part.count, **shown)
  for number, record in enumerate(records):
    extension = _extension(record.image)
    if not extension:
      counts[_NO_IMAGE] += 1
      continue
    label = _safe(record.label) if record.label else ""
    (folder / label).mkdir(exist_ok=True)
    (folder / label / f"{number:08}.{extension}").write_bytes(record.image)
    counts[label] += 1
  return counts


def _extension(image: bytes) -> str:
  """As its bytes say; "" if Pillow knows no such format, or pixels are too many."""
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore", Image.DecompressionBombWarning)
      with Image.open(io.BytesIO(image)) as opened:
        return _EXTENSIONS.get(opened.format, opened.format.lower())
  except (*_UNREADABLE, Image.DecompressionBombError):
    return ""


def _safe(label: str) -> str:
  """The name of a folder for a class: never a path, a hidden name or another's."""
  name = "".join(
    one
    if one.isalnum() or one in _PLAIN
    else "".join(f"%{b:02X}" for b in one.encode())
    for one in label.strip()
  )
  return f"%2E{name[1:]}" if name.startswith(".") else name


def _tell(
  pack: Pack,
  written: dict[str, collections.Counter[str]],
  output: str,
  console: Console,
) -> None:
  for name, counts in written.items():
    images = counts.total() - counts[_NO_IMAGE]
    classes = len(counts.keys() - {"", _NO_IMAGE})
    lines = [f"{output}/{name}: {images:,} images, {classes or 'no'} classes"]
    if classes and counts[""]:
      lines.append(f"{counts['']:,} of them without a label")
    if counts[_NO_IMAGE]:
      lines.append(
        f"{counts[_NO_IMAGE]:,} records are no image, or of more than {MOST_PIXELS:,} "
        "pixels, and are left out"
      )
    console.print("; ".join(lines), highlight=False, soft_wrap=True)
  console.print(f"labels: {pack.labels or 'none'}", highlight=False, soft_wrap=True)
  how = f"--config.data.source=folder --config.data.path={output}"
  console.print(f"read it by {how}", highlight=False, soft_wrap=True)
