"""What is asked for besides a config."""

from typing import NamedTuple

from clim_jax.experiment.configuration import WHOLE_CONFIG, Overrides


class Request(NamedTuple):
  """What is asked for besides the config."""

  input: str = ""  # a folder of images
  output: str = ""
  format: str = ""
  overrides: Overrides = WHOLE_CONFIG  # of a run that is looked at again
  quiet: bool = False  # only warnings are said
  target: str = ""  # what is planned for, such as "tpu:v5e:2x4"; "": this machine
  price_per_hour: float | None = None  # of it
  atlas: bool = False  # what is embedded, with what embedding-atlas shows
