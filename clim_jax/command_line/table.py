"""All modes and flags: what help, checks and dispatch read."""

from collections.abc import Callable
from typing import NamedTuple

from absl import flags

DEFAULT_CONFIG = "digits"


class Mode(NamedTuple):
  """A thing to do; the function of this name in `launch.MODES` does it."""

  what: str
  needs: tuple[str, ...] = ()  # flags that it cannot do without, and others refuse
  takes: tuple[str, ...] = ()  # flags that it may be given, and others refuse


class Flag(NamedTuple):
  """A flag that is no key of a config."""

  value: str  # how its value is called in the help; "": a switch
  what: str
  define: Callable = flags.DEFINE_string


MODES = {
  "pretrain": Mode("train an encoder and evaluate it; the default"),
  "plan": Mode(
    "say what a run will take: time, memory, disk",
    takes=("target", "price-per-hour"),
  ),
  "evaluate": Mode("judge a run, by the protocol of --config=evaluate/…"),
  "report": Mode("make a page of a run, to look at in a browser"),
  "runs": Mode("list the runs below --workdir, by default runs/"),
  "compare": Mode("make a page of several runs", ("runs", "output")),
  "embed": Mode(
    "write the features of a folder of images", ("input", "output"), ("atlas",)
  ),
  "check": Mode("look through all images once, and list those to leave out"),
  "convert": Mode(
    "write a packed set as image files: Hugging Face, parquet, WebDataset, TFDS",
    ("input", "output"),
  ),
  "export": Mode("write a backbone for another library", ("format", "output")),
}
FLAGS = {
  "config": Flag("NAME|FILE.py", f"what to run; by default {DEFAULT_CONFIG}"),
  "workdir": Flag("DIR", "where the run lives; pretrain can make one, below runs/"),
  "mode": Flag("MODE", "the mode, said as a flag"),
  "input": Flag("FOLDER", "the images, or the packed set"),
  "output": Flag("PATH", "a file or folder to write; of features .npz or .parquet"),
  "atlas": Flag(
    "", "with thumbnails and a map, for embedding-atlas to show", flags.DEFINE_bool
  ),
  "runs": Flag("DIR,DIR", "the runs, the first of them to compare with"),
  "format": Flag(
    "NAME", "torchvision, timm, transformers, detectron2, onnx or hub-folder"
  ),
  "target": Flag("tpu:TOPOLOGY", "plan for TPUs that are not here: tpu:v5e:2x4"),
  "price-per-hour": Flag("X", "of the machine; prices the run", flags.DEFINE_float),
  "quiet": Flag("", "say warnings and errors alone", flags.DEFINE_bool),
  "distributed": Flag(
    "", "one of several processes; Cloud TPU and Slurm need no more", flags.DEFINE_bool
  ),
  "coordinator": Flag("HOST:PORT", "of process 0, elsewhere"),
  "num_processes": Flag("N", "how many there are", flags.DEFINE_integer),
  "process_id": Flag("I", "which one this is", flags.DEFINE_integer),
}
# Modes that begin a run, or look ahead at one: it may have no folder yet.
BEGINNING = ("pretrain", "check", "plan")
PATHS = ("workdir", "input", "output")


def modes_of(flag: str) -> list[str]:
  """The modes that alone can use a flag; none: all can."""
  return [name for name, mode in MODES.items() if flag in mode.needs + mode.takes]


def example(flag: str) -> str:
  """Such as `--workdir=DIR`."""
  value = FLAGS[flag].value
  return f"--{flag}={value}" if value else f"--{flag}"
