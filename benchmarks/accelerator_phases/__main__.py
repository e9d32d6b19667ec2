"""Runs one phase: python -m benchmarks.accelerator_phases NAME --out=DIR [--quick]."""

import argparse
import importlib
import pathlib

from benchmarks.accelerator_phases.phase import Phase


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("name")
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--data", type=pathlib.Path, required=True)
  parser.add_argument("--epochs", type=int, required=True)
  parser.add_argument("--cases", required=True)
  parser.add_argument("--limit-scale", type=float, required=True)
  parser.add_argument("--quick", action="store_true")
  options = parser.parse_args()
  module = importlib.import_module(f"{__package__}.{options.name}")
  module.measure(Phase(**vars(options)))


if __name__ == "__main__":
  main()
