"""Where the tests' compiled programs are kept from run to run."""

import hashlib
import pathlib
import platform
from importlib import metadata


def folder() -> str:
  """Of this checkout, for programs of this jaxlib and CPU: others cannot run them."""
  return str(pathlib.Path(__file__).parent.parent / ".pytest_cache" / compiled_for())


def compiled_for() -> str:
  """The jaxlib and the kind of CPU that programs are compiled by and for."""
  cpu = pathlib.Path("/proc/cpuinfo")
  lines = cpu.read_text().splitlines() if cpu.exists() else []
  flags = next((x for x in lines if x.startswith(("flags", "Features"))), "")
  kind = hashlib.sha256(f"{platform.machine()} {flags}".encode()).hexdigest()[:8]
  return f"jaxlib-{metadata.version('jaxlib')}-{kind}"
