"""Where the tests' compiled programs are kept from run to run."""

import hashlib
import pathlib
import platform
from importlib import metadata


def folder() -> str:
  """Of this checkout, for one jaxlib on one kind of CPU: others cannot run them."""
  cpu = pathlib.Path("/proc/cpuinfo")
  lines = cpu.read_text().splitlines() if cpu.exists() else []
  flags = next((x for x in lines if x.startswith(("flags", "Features"))), "")
  kind = hashlib.sha256(f"{platform.machine()} {flags}".encode()).hexdigest()[:8]
  root = pathlib.Path(__file__).parent.parent / ".pytest_cache"
  return str(root / f"jaxlib-{metadata.version('jaxlib')}-{kind}")
