"""The model card of a run: README.md in a folder for the Hugging Face Hub."""

from typing import Any

from etils import epath

from clim_jax.experiment.keys import BASE
from clim_jax.report import figures
from clim_jax.report.render import config_rows, render, write
from clim_jax.report.run_files import RunFiles, read_run
from clim_jax.weights.formats import hub
from clim_jax.weights.spec import Network, Preprocessing

CARD = "README.md"
# A card is for all to read, and where a person's files lie is for none. What sections
# hold that shape no training says nothing either.
_UNSAID = ("data.path", "data.test_path", "data.exclude", "data.test_labels")
_UNSAID += ("model.weights",)
_OF_OTHERS = ("log.", "checkpoint.", "report.", "online.", "evaluation.")


def write_card(
  workdir: epath.Path,
  output: epath.Path,
  network: Network,
  preprocessing: Preprocessing,
  about: dict[str, Any],
) -> epath.Path:
  """Writes the card: what it is, how to load it, figures, config.

  Args:
    workdir: of the run.
    output: the folder of the weights.
    network: what they are of.
    preprocessing: what it was fed.
    about: of the weights, as an evaluation says it; figures of others are left out.

  Raises:
    ConfigError: there is no run, or its config is damaged.
  """
  run = _of_these_weights(read_run(workdir), about)
  page = render(
    "card.md",
    run=run,
    network=network,
    preprocessing=preprocessing,
    library=hub.library(network),
    encoder=about["encoder"],
    step=about["step"],
    folder=output.name,
    own=figures.by_place(run),
    row_name=figures.row_name,
    tables=figures.evaluation_tables(run),
    warnings=figures.warnings(run),
    config=[row for row in config_rows(run) if _is_said(row[0])],
    keys=_network_keys(network, preprocessing),
  )
  return write(page, output / CARD)


def _of_these_weights(run: RunFiles, about: dict[str, Any]) -> RunFiles:
  """The run with evaluations of this step and encoder alone."""
  kept = {}
  for stem, document in run.evaluations.items():
    judged = next(iter(document.get("encoders", {}).values()), {})
    if all(judged.get(name) == about[name] for name in ("step", "encoder")):
      kept[stem] = document
  return run._replace(evaluations=kept)


def _is_said(key: str) -> bool:
  return key not in _UNSAID and not key.startswith(_OF_OTHERS)


def _network_keys(network: Network, preprocessing: Preprocessing) -> dict[str, Any]:
  """The keys by which a config describes the weights, where they differ from base."""
  values = {
    "model.backbone": network.backbone,
    "model.stem": network.stem,
    "model.width": network.width,
    "views.evaluation_side": preprocessing.side,
    "views.evaluation_fraction": preprocessing.crop_fraction,
    "data.pixel_mean": preprocessing.pixel_mean,
    "data.pixel_std": preprocessing.pixel_std,
  }
  return {
    key: ",".join(map(str, value)) if isinstance(value, tuple) else value
    for key, value in values.items()
    if value != BASE[key]
  }
