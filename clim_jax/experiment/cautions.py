"""What works and is not what it seems: said before the first step, with the mend."""

from collections.abc import Iterable

from ml_collections import ConfigDict
from rich.console import Console
from rich.text import Text

from clim_jax.data.source import Source
from clim_jax.experiment.keys import with_flags
from clim_jax.selection.positives import RULES

_FEW_STEPS = 500  # however short the key encoder's memory


def warn(console: Console, texts: Iterable[str]) -> None:
  """A line each, also where all else is silenced."""
  quiet, console.quiet = console.quiet, False
  for text in texts:
    line = Text.assemble(("warning: ", "yellow"), with_flags(text))
    console.print(line, soft_wrap=True)
  console.quiet = quiet


def tell_of(console: Console, *sources: Source | None) -> None:
  """What these images were taken for, and what is wrong with them, each once."""
  abouts = [source.about for source in sources if source is not None]
  for fact in dict.fromkeys(fact for about in abouts for fact in about.facts):
    console.print(with_flags(fact), highlight=False, soft_wrap=True)
  warn(console, dict.fromkeys(text for about in abouts for text in about.warnings))


def cautions(config: ConfigDict, *, num_images: int, total_steps: int) -> list[str]:
  """Each with the value, the limit and the mend.

  Args:
    config: a whole config that has been checked.
    num_images: of the training set.
    total_steps: of the run.
  """
  epochs, found = config.epochs, []
  selection, optimizer, moco = config.selection, config.optimizer, config.moco
  if selection.rule != "none" and selection.warmup_epochs >= epochs:
    found.append(
      f"no image gets a similar one: selection begins after "
      f"selection.warmup_epochs={selection.warmup_epochs} epochs and the run has "
      f"{epochs}, so this is plain MoCo v2 and not CLIM; raise epochs or lower "
      "selection.warmup_epochs"
    )
  if optimizer.warmup_epochs >= epochs:
    found.append(
      "the learning rate rises for "
      f"optimizer.warmup_epochs={optimizer.warmup_epochs:g} epochs and the run has "
      f"{epochs}: it never falls; raise epochs or lower optimizer.warmup_epochs"
    )
  if moco.queue_size > num_images:
    found.append(
      f"moco.queue_size={moco.queue_size} exceeds the {num_images} training images: "
      "each is told apart from older keys of itself; set moco.queue_size to at most "
      f"{_power_of_two_below(num_images)}"
    )
  conditions, images_a_center = (
    RULES[selection.rule],
    num_images / selection.num_centers,
  )
  if {"a", "b"} <= {*conditions} and images_a_center < selection.num_neighbours:
    most = max(1, num_images // selection.num_neighbours)
    found.append(
      f"selection.num_centers={selection.num_centers} leaves {images_a_center:.1f} "
      f"images a center, fewer than selection.num_neighbours="
      f"{selection.num_neighbours}: most neighbours are of other clusters and lost; "
      f"set selection.num_centers to at most {most}"
    )
  trained, judged = config.views.sides, config.views.evaluation_side
  if judged not in trained:
    found.append(
      f"trained at {' and '.join(map(str, trained))} pixels and judged at "
      f"views.evaluation_side={judged}, at which similar images are looked for too; "
      f"set views.evaluation_side={trained[0]} unless this is meant"
    )
  memory = 1 / max(1 - moco.momentum, 1e-9)  # steps
  enough = max(_FEW_STEPS, 2 * memory)
  if total_steps < enough and moco.momentum < 1:
    found.append(
      f"the run has only {total_steps} steps; below {enough:,.0f} little is learnt: "
      f"the key encoder averages over {memory:,.0f} (moco.momentum={moco.momentum:g}); "
      "raise epochs, or lower batch_size or moco.momentum"
    )
  return found


def _power_of_two_below(number: int) -> int:
  return 1 << (number.bit_length() - 1)
