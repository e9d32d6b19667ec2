"""Files that are there whole or not at all, whenever the process dies."""

import contextlib
from collections.abc import Iterator

from etils import epath


@contextlib.contextmanager
def written_whole(path: epath.Path) -> Iterator[epath.Path]:
  """A path beside `path`; what is written there takes its place at the end.

  with written_whole(path) as beside:
    beside.write_text("all of it")

  An error inside leaves `path` as it was.
  """
  beside = path.with_name(f".{path.name}.part")
  try:
    yield beside
    beside.replace(path)
  except BaseException:
    beside.unlink(missing_ok=True)
    raise
