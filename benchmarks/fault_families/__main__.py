"""Tries one family: python -m benchmarks.fault_families NAME --lines=FILE [--quick]."""

import argparse
import importlib
import pathlib
import tempfile

from benchmarks.fault_families.family import Family

# Where the function of each family is: its module.
FAMILIES = {
  "kills": "interruptions",
  "sigterm": "interruptions",
  "damage": "damage",
  "disk": "disk",
  "read_only": "read_only",
  "pictures": "pictures",
  "configs": "configs",
  "hosts": "hosts",
  "host_lost": "hosts",
  "soak": "soak",
}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("name", choices=FAMILIES)
  parser.add_argument("--lines", type=pathlib.Path, required=True)
  parser.add_argument("--quick", action="store_true")
  asked = parser.parse_args()
  module = importlib.import_module(f"{__package__}.{FAMILIES[asked.name]}")
  with tempfile.TemporaryDirectory(prefix=f"clim_{asked.name}_") as scratch:
    family = Family(asked.name, asked.lines, pathlib.Path(scratch), asked.quick)
    getattr(module, asked.name)(family)


if __name__ == "__main__":
  main()
