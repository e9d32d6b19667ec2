"""What an operating system's error of a disk means for a person."""

import errno

from etils import epath

_ELSEWHERE = "or give another --workdir or --output"
_NO_RIGHT = f"this user has no right to it; change its rights, {_ELSEWHERE}"
_MEANT = {
  errno.ENOSPC: "the disk is full; make room",
  errno.EDQUOT: "this user's share of the disk is used up; make room",
  errno.EROFS: f"the disk is read-only; mount it for writing, {_ELSEWHERE}",
  errno.EACCES: _NO_RIGHT,
  errno.EPERM: _NO_RIGHT,
}


def told(error: OSError, folder: epath.PathLike, mode: str) -> str:
  """One sentence: where, what, and what to do.

  Args:
    error: of any kind; one of another cause speaks for itself.
    folder: where the mode writes, if the error names no file.
    mode: what was done.
  """
  if error.errno not in _MEANT:
    return str(error)
  after = ""
  if mode == "pretrain":
    after = "; then the same command goes on from the newest checkpoint"
  return f"{error.filename or folder}: {_MEANT[error.errno]}{after}"
