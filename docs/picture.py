"""Draws the README's picture from a run on the digits.

python main.py --workdir=runs/digits
python docs/picture.py runs/digits docs/similar.png
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import matplotlib
import numpy as np
from matplotlib import pyplot
from sklearn.datasets import load_digits

import clim_jax
from clim_jax.method.mixture import cutmix

SHOWN = (2, 3, 9)  # digits, one a row
SIMILAR = 5
TITLES = {0: "an image", 2: "similar ones, found without labels", -1: "the mix"}
OWN, OTHER = "Blues", "Oranges"  # colours of an image and of what others lend it
SHARES = (0.45, 0.75)  # share of the image's own pixels in the mixtures shown


def find(workdir: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Images [N, S, S], their neighbours and which are kept [N, M], as in a refresh."""
  images = np.round(load_digits().images * (255 / 16)).astype(np.uint8)
  features = clim_jax.load(workdir, evaluation__encoder="key").embed(images)
  selection = clim_jax.config("digits").selection
  found = clim_jax.center_wise_positives(
    features,
    num_neighbours=selection.num_neighbours,
    num_centers=selection.num_centers,
  )
  return images, found.ids, found.mask


def mixture(image: np.ndarray, other: np.ndarray, seed: int) -> np.ndarray:
  """CutMix by the run's own code, in both images' colours, [S, S, 4]."""
  own, lent = matplotlib.colormaps[OWN](image), matplotlib.colormaps[OTHER](other)
  share = 0.0
  while not SHARES[0] < share < SHARES[1]:  # a draw that shows both
    mixed, share = cutmix(jax.random.key(seed), own, lent, alpha=2.0)
    seed += 1
  return np.asarray(mixed)


def draw(workdir: str, output: str) -> None:
  images, ids, kept = find(workdir)
  labels, enough = load_digits().target, kept.sum(1) >= SIMILAR
  anchors = [np.flatnonzero(enough & (labels == digit))[8] for digit in SHOWN]
  widths = [1, 0.4, *[1] * SIMILAR, 0.4, 1]
  figure, axes = pyplot.subplots(
    len(SHOWN),
    len(widths),
    figsize=(sum(widths), len(SHOWN)),
    gridspec_kw={"width_ratios": widths, "wspace": 0.08, "hspace": 0.08},
  )
  for axis in axes.flat:
    axis.axis("off")
  for row, anchor in zip(axes, anchors, strict=True):
    similar = ids[anchor][kept[anchor]][:SIMILAR]
    row[0].imshow(images[anchor], cmap=OWN, vmin=0, vmax=255)
    for axis, other in zip(row[2:-2], similar, strict=True):
      axis.imshow(images[other], cmap=OTHER, vmin=0, vmax=255)
    row[-1].imshow(mixture(images[anchor], images[similar[0]], seed=int(anchor)))
  for column, title in TITLES.items():
    axes[0, column].set_title(title, fontsize=11, loc="left")
  figure.savefig(output, dpi=100, bbox_inches="tight", pad_inches=0.1)


if __name__ == "__main__":
  draw(*sys.argv[1:3])
