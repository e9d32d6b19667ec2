"""Pages that need nothing but themselves, from templates."""

import datetime
import json
from typing import Any

import jinja2
from etils import epath

import clim_jax
from clim_jax.experiment import keys
from clim_jax.report import plot
from clim_jax.report.run_files import RunFiles
from clim_jax.whole import written_whole


def config_rows(run: RunFiles) -> list[tuple[str, Any, Any]]:
  """Key, value, and the default where it is another, else None."""
  base = json.loads(json.dumps(keys.BASE))
  return [
    (key, value, base[key] if key in base and base[key] != value else None)
    for key, value in run.config.items()
  ]


def render(template: str, **context: Any) -> str:
  """The text of a page."""
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("clim_jax.report"),
    autoescape=jinja2.select_autoescape(["html"]),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.ChainableUndefined,
  )
  now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
  return environment.get_template(template).render(
    made=now,
    version=clim_jax.__version__,
    plot_size=(plot.WIDTH, plot.HEIGHT),
    **context,
  )


def write(page: str, path: epath.Path) -> epath.Path:
  path.parent.mkdir(parents=True, exist_ok=True)
  with written_whole(path) as beside:
    beside.write_text(page)
  return path
