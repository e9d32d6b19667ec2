"""What the process does with memory that is freed."""

import ctypes
import os

# Numbers of glibc's malloc.h, and bytes.
_TOP_PAD, _MMAP_THRESHOLD = -2, -3
_KEPT = 64 * 2**20  # free at the end of a heap; the whole heap of a thread
_MAPPED = 32 * 2**20  # larger arrays are mapped one by one; the most that glibc takes


def keep_freed_memory() -> bool:
  """Has glibc use freed memory again, where it would give it back to the system.

  A decoded image is half a megabyte, and the pages of memory that is fresh from the
  system must be cleared, one fault each. Memory is kept for later images only: it is
  not taken before it is asked for.

  Returns:
    Whether it was done: not with another C library, nor if the environment says how
    glibc is to allocate.
  """
  if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
    return False
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is None:
    return False
  # Setting any option ends glibc's own raising of the second one, from 128 KiB.
  options = {_TOP_PAD: _KEPT, _MMAP_THRESHOLD: _MAPPED}
  return all(mallopt(*option) == 1 for option in options.items())
