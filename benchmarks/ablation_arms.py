"""Arms that no user needs but science does; run as a process of its own.

  python benchmarks/ablation_arms.py ARM [arguments of main.py]

They take the place of one part of the run and leave all others as they are:
- random: positives drawn from all images. What does the mixture bring alone?
- same_label: positives of the anchor's label, which training never sees otherwise. What
  would perfect positives bring?
- centred: the mean of all features is subtracted before neighbours and clusters.
- nnclr: instead of a selection, the nearest key in the queue takes the place of the
  anchor's own (Dwibedi et al. 2021, arXiv 2104.14548), with the queue as negatives.
"""

import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from clim_jax import command_line
from clim_jax.experiment import experiment
from clim_jax.method import losses, step
from clim_jax.method.objective import Anchors, Recipe
from clim_jax.models.encoder import Encoder, unit_norm
from clim_jax.selection import figures, positives
from clim_jax.selection.positives import Positives
from clim_jax.selection.refresh import RowsOnHost, Selected, Selection


class GroupedSelection(Selection):
  """Positives of an image are all others of its group, whatever their features."""

  def groups(self, num_images: int, labels: np.ndarray | None) -> np.ndarray:
    """[N] int."""
    raise NotImplementedError

  def __call__(
    self,
    mesh: Mesh,
    bank: jax.Array,
    *,
    num_images: int,
    epoch: int,
    labels: np.ndarray | None,
    previous: Positives | None,
  ) -> Selected:
    group = np.unique(self.groups(num_images, labels), return_inverse=True)[1]
    table = positives.from_clusters(group, np.zeros(num_images), closer=False)
    found = figures.selection_figures(
      table,
      previous=previous,
      assignment=None,
      neighbours=None,
      labels=labels,
      num_centers=self.num_centers,
      rng=np.random.default_rng((self.seed, epoch)),
    )
    return Selected(table, found, RowsOnHost(None, None, None, None))


class RandomPositives(GroupedSelection):
  def groups(self, num_images: int, labels: np.ndarray | None) -> np.ndarray:
    return np.zeros(num_images, int)


class SameLabelPositives(GroupedSelection):
  def groups(self, num_images: int, labels: np.ndarray | None) -> np.ndarray:
    if labels is None:
      raise ValueError("positives of the same label need labels")
    return labels


class CentredSelection(Selection):
  def __call__(
    self, mesh: Mesh, bank: jax.Array, *, num_images: int, **others: Any
  ) -> Selected:
    bank = centred(bank, num_images)
    return super().__call__(mesh, bank, num_images=num_images, **others)


@jax.jit
def centred(bank: jax.Array, num_images: int) -> jax.Array:
  """Rows of a bank, [N_pad, D], less the mean of its images', of unit norm again."""
  valid = (jnp.arange(len(bank)) < num_images)[:, None]
  mean = jnp.sum(jnp.where(valid, bank, 0), axis=0, keepdims=True) / num_images
  return jnp.where(valid, unit_norm(bank - mean), bank)


def with_nearest_keys(loss: Callable[..., Any]) -> Callable[..., Any]:
  """A loss as `clim_loss`, whose anchors' keys are the nearest ones in the queue."""

  def nearest(
    encoder: Encoder,
    params: Any,
    stats: Any,
    anchors: Anchors,
    negatives: jax.Array,
    recipe: Recipe,
  ) -> Any:
    likeness = jnp.dot(anchors.keys, negatives.T, precision=lax.Precision.HIGHEST)
    found = anchors._replace(keys=negatives[jnp.argmax(likeness, axis=-1)])
    return loss(encoder, params, stats, found, negatives, recipe)

  return nearest


def queued_info_nce(
  query: jax.Array, key: jax.Array, negative: jax.Array, *, temperature: float
) -> jax.Array:
  """As `losses.info_nce`, for keys that are negatives already, [B] float32."""
  return jax.nn.logsumexp(negative, axis=-1) - jnp.sum(query * key, -1) / temperature


SELECTIONS = {
  "random": RandomPositives,
  "same_label": SameLabelPositives,
  "centred": CentredSelection,
}


def replace(arm: str) -> None:
  """Puts an arm in the place of what a run takes otherwise."""
  if arm in SELECTIONS:
    experiment.Selection = SELECTIONS[arm]
  elif arm == "nnclr":
    step.clim_loss = with_nearest_keys(step.clim_loss)
    losses.info_nce = queued_info_nce
  else:
    raise SystemExit(f"no arm {arm!r}; there are {', '.join([*SELECTIONS, 'nnclr'])}")


if __name__ == "__main__":
  replace(sys.argv.pop(1))
  command_line.main()
