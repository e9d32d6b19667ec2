"""Checks the cost model of docs/notebook/selection.md against measurements here.

  python benchmarks/selection_cost.py [--repeats 3] [--largest 100000]

The model has three constants, fitted to the small searches alone; the large ones are
predicted. One JSON object a line: what was measured, what the model says, the ratio.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import numpy as np
from scipy.optimize import nnls

from clim_jax import sharding
from clim_jax.selection.search.exact import exact_neighbours

NEIGHBOURS = 20
FITTED = ((6_000, 128), (10_000, 128), (20_000, 128), (10_000, 512), (10_000, 2048))
PREDICTED = ((50_000, 128), (100_000, 128), (30_000, 512), (20_000, 2048))


def terms(images: int, dim: int) -> np.ndarray:
  """What the seconds of an exact search on one device are proportional to, [3].

  Multiplying, N²·D FLOP; reading each similarity twice for hits, N²; and visiting
  the hits, of which every image has about M·(1 + ln(N / tile)).
  """
  hits = images * NEIGHBOURS * (1 + np.log(max(images / 2048, 1)))
  return np.array([images**2 * dim, images**2, hits], float)


def measure(images: int, dim: int, repeats: int) -> float:
  """Median seconds of an exact search among random unit vectors, compiled before."""
  x = np.random.default_rng(0).standard_normal((images, dim), np.float32)
  x /= np.linalg.norm(x, axis=1, keepdims=True)
  mesh = sharding.make_mesh(jax.devices()[:1])
  bank = jax.device_put(x)
  seconds = []
  for _ in range(repeats + 1):
    start = time.perf_counter()
    found = exact_neighbours(mesh, bank, num_images=images, num_neighbours=NEIGHBOURS)
    jax.block_until_ready(found)
    seconds.append(time.perf_counter() - start)
  return statistics.median(seconds[1:])


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--largest", type=int, default=100_000, help="images")
  args = parser.parse_args()
  fitted = [size for size in FITTED if size[0] <= args.largest]
  predicted = [size for size in PREDICTED if size[0] <= args.largest]

  measured = {size: measure(*size, args.repeats) for size in (*fitted, *predicted)}
  design = np.stack([terms(*size) for size in fitted])
  seconds = np.array([measured[size] for size in fitted])
  # Relative errors count, and no constant may be negative.
  constants, _ = nnls(design / seconds[:, None], np.ones(len(fitted)))
  names = ("seconds_per_flop", "seconds_per_similarity", "seconds_per_hit")
  print(json.dumps(dict(zip(names, constants, strict=True))))
  for (images, dim), took in measured.items():
    model = float(terms(images, dim) @ constants)
    kind = "fitted" if (images, dim) in fitted else "predicted"
    line = {"images": images, "dim": dim, "kind": kind, "measured": took}
    print(json.dumps(line | {"model": model, "ratio": model / took}), flush=True)


if __name__ == "__main__":
  main()
