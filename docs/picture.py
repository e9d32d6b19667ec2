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
from etils import epath
from matplotlib import pyplot

from clim_jax import sharding
from clim_jax.configs import digits
from clim_jax.evaluate.features import extract
from clim_jax.experiment.configuration import WHOLE_CONFIG
from clim_jax.experiment.experiment import evaluation_crop, open_data
from clim_jax.experiment.runs import open_run
from clim_jax.method.mixture import cutmix
from clim_jax.selection.center_wise import center_wise_positives

ROWS, SIMILAR = 3, 5
TITLES = {0: "an image", 2: "similar ones, found without labels", -1: "the mix"}
OWN, OTHER = "Blues", "Oranges"  # colours of an image and of what others lend it
SHARES = (0.45, 0.75)  # share of the image's own pixels in the mixtures shown


def find(workdir: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Images [N, S, S], their neighbours and which are kept [N, M], as in a refresh."""
  config = digits.get_config()
  config.evaluation.encoder = "key"
  mesh = sharding.make_mesh()
  trained = open_run(config, epath.Path(workdir), mesh, WHOLE_CONFIG)
  source, _ = open_data(trained.config)
  features = extract(
    mesh, trained.subject, source, evaluation_crop(trained.config), batch_size=256
  )
  selection = trained.config.selection
  found = center_wise_positives(
    features,
    num_neighbours=selection.num_neighbours,
    num_centers=selection.num_centers,
  )
  return source.images[..., 0], found.ids, found.mask


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
  enough = np.flatnonzero(kept.sum(1) >= SIMILAR)
  anchors = np.random.default_rng(1).choice(enough, ROWS, replace=False)
  widths = [1, 0.4, *[1] * SIMILAR, 0.4, 1]
  figure, axes = pyplot.subplots(
    ROWS,
    len(widths),
    figsize=(sum(widths), ROWS),
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
