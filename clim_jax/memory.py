"""What the process does with memory that is freed."""

import ctypes
import os

# Numbers of glibc's malloc.h, and bytes.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_KEPT = 2**30  # at the end of a heap, before it goes back to the system
_PAD = 64 * 2**20  # that a heap grows by; the whole heap of a thread
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
  options = {
    _TRIM_THRESHOLD: _KEPT,
    _TOP_PAD: _PAD,
    # Any option ends glibc's own raising of this one, from 128 KiB.
    _MMAP_THRESHOLD: _MAPPED,
  }
  return all(mallopt(*option) == 1 for option in options.items())
