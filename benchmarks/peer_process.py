"""A peer in a process and a virtual environment of its own, asked by lines."""

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

_HERE = pathlib.Path(__file__).parent
PYTHON = _HERE / ".venv-peers" / "bin" / "python"


def require_peers() -> None:
  """Ends the program if there is no environment to run peers in."""
  if not PYTHON.exists():
    sys.exit(f"{PYTHON} does not exist; run benchmarks/setup_peers.sh first")


class PeerProcess:
  """Runs a script that prints "ready", then a JSON object for every line it reads."""

  def __init__(
    self,
    script: str,
    *arguments: str,
    python: pathlib.Path | str | None = None,
    env: dict[str, str] | None = None,
  ) -> None:
    """By default in the peers' environment; `env` is added to this process's."""
    pipe = subprocess.PIPE
    self._process = subprocess.Popen(
      [python or PYTHON, _HERE / script, *arguments],
      stdin=pipe,
      stdout=pipe,
      text=True,
      env=os.environ | (env or {}),
    )
    self._answer()

  def ask(self) -> dict[str, Any]:
    self._process.stdin.write("\n")
    self._process.stdin.flush()
    return json.loads(self._answer())

  def close(self) -> None:
    self._process.communicate()

  def _answer(self) -> str:
    line = self._process.stdout.readline()
    if not line:
      sys.exit(f"the peer ended with {self._process.wait()}; see its error above")
    return line
