"""One process of several, and its parent, which says how it ended.

Where one of several processes dies, JAX's runtime ends the others from within, at a
moment when Python cannot speak any more. So each is watched by a parent that does
nothing else: the last line is a sentence, and the exit code is not 0.
"""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn


def watched(work: Callable[[], None]) -> NoReturn:
  """Does the work in a child of this process, and ends as it has ended."""
  sys.stdout.flush()
  sys.stderr.flush()
  alive, held = os.pipe()  # the child reads its end once this process is gone
  child = os.fork()
  if not child:
    os.close(held)
    # A Ctrl-C of the terminal shall reach it once: through its parent.
    os.setpgid(0, 0)
    threading.Thread(target=_end_with_parent, args=(alive,), daemon=True).start()
    _do(work)
  os.close(alive)
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: os.kill(child, number))
  code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
  if code < 0:
    name = signal.Signals(-code).name
    print(
      f"error: this process was ended by {name}: another process of the run has died "
      "or cannot be reached, or memory was short. The first process that ended says "
      "why; the same command in all of them goes on from the newest checkpoint",
      file=sys.stderr,
      flush=True,
    )
  os._exit(code if code >= 0 else 1)


def _end_with_parent(alive: int) -> None:
  os.read(alive, 1)
  os._exit(1)


def _do(work: Callable[[], None]) -> NoReturn:
  """Ends at once where the work fails: the others would not come to a leave-taking."""
  try:
    work()
  except SystemExit as stop:
    if stop.code is None or isinstance(stop.code, int):
      raise
    print(stop.code, file=sys.stderr)
  except BaseException:
    traceback.print_exc()
  else:
    sys.exit(0)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(1)
