"""What the process does with memory that is freed."""

import ctypes
import os

# Numbers of glibc's malloc.h, and bytes.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_KEPT = 64 * 2**20  # free at the end of a heap; the whole heap of a thread
_MAPPED = 32 * 2**20  # larger arrays are mapped one by one; the most that glibc takes
_MOST_KEPT = 2**31 - 1  # the most that an option says


def keep_freed_memory(*, of_programs: bool) -> bool:
  """Has glibc use freed memory again, where it would give it back to the system.

  A decoded image is half a megabyte, and the pages of memory that is fresh from the
  system must be cleared, one fault each. Memory is kept for later use only: it is
  not taken before it is asked for. It holds for the whole process, to its end.

  Args:
    of_programs: also arrays above 32 MiB, in other threads than the first up to 64.
      On a CPU, XLA takes the temporaries of a program as one array, anew for every
      step. With an accelerator such arrays are rare, and of the host, which shall
      have them back.

  Returns:
    Whether it was done: not with another C library, nor if the environment says how
    glibc is to allocate.
  """
  if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
    return False
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is None:
    return False
  # Setting any option ends glibc's own raising of _MMAP_THRESHOLD, from 128 KiB.
  options = {_TOP_PAD: _KEPT, _MMAP_THRESHOLD: _MAPPED}
  if of_programs:
    options |= {_TRIM_THRESHOLD: _MOST_KEPT, _MMAP_MAX: 0}
  return all(mallopt(*option) == 1 for option in options.items())
