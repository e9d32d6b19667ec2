"""Installs the wheel as a stranger would, and tries all that it brings.

    python tests/try_wheel.py python3.11 python3.12

For each Python given: a new environment, the wheel of the committed files with its
requirements and no others, and from an empty folder every public name and the `clim`
command. Minutes long, most of them the installation; not collected by pytest.
"""

import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parent.parent
# With import paths of the empty folder alone; prints its last line when all went well.
_NAMES = """
import time
start = time.process_time()  # a busy machine is no fault of the package
import clim_jax
seconds = time.process_time() - start
assert seconds < 0.3, f"import takes {seconds:.2f} s"
import importlib.util, pathlib, numpy as np
assert "site-packages" in clim_jax.__file__
assert importlib.util.find_spec("configs") is None
from clim_jax.configs import base, digits
from clim_jax.configs.evaluate import knn
from clim_jax.configs.pods import v4_32

images = np.random.default_rng(0).integers(0, 256, (64, 12, 12), dtype=np.uint8)
small = clim_jax.config("smoke", batch_size=16, epochs=2, evaluation__protocols="knn")
small.selection.update(num_centers=3, num_neighbours=5, refresh_epochs=1)
run = clim_jax.pretrain(
  images, labels=np.arange(64) % 2, out="run", config=small,
  evaluation__knn__neighbours=3,
)
assert clim_jax.evaluate(run)["results"]
encoder = clim_jax.load(run)
features = encoder.embed(images)
assert features.shape == (64, encoder.dim)
assert (clim_jax.embed(run, images) == features).all()
assert clim_jax.export(run, "torchvision", "net.safetensors").exists()
found = clim_jax.center_wise_positives(features, num_neighbours=5, num_centers=3)
assert found.ids.shape == (64, 5)
assert "evaluate/knn" in clim_jax.config_names()
try:
  clim_jax.load("nowhere")
except clim_jax.ConfigError as error:
  print("refused, as it should be:", error)
print("import took %.2f s; all names of clim_jax" % seconds, clim_jax.__version__)
"""
_COMMANDS = (
  ["--version"],
  ["--help"],
  ["--keys", "moco"],
  ["--config=smoke", "--workdir=smoke"],
  ["evaluate", "--config=evaluate/knn", "--workdir=smoke"],
  [
    "export",
    "--workdir=smoke",
    "--format=torchvision",
    "--output=smoke.pth.safetensors",
  ],
)


def main() -> None:
  with tempfile.TemporaryDirectory() as folder:
    wheel = _build(pathlib.Path(folder))
    for python in sys.argv[1:] or [sys.executable]:
      _try(python, wheel, pathlib.Path(tempfile.mkdtemp(dir=folder)))


def _build(folder: pathlib.Path) -> pathlib.Path:
  """The wheel of what is committed: a build folder at hand may hold older files."""
  source = folder / "source"
  source.mkdir()
  archive = subprocess.check_output(["git", "archive", "HEAD"], cwd=ROOT)
  subprocess.run(["tar", "x"], input=archive, cwd=source, check=True)
  _run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source])
  return next(folder.glob("*.whl"))


def _try(python: str, wheel: pathlib.Path, folder: pathlib.Path) -> None:
  print(f"== {python}", flush=True)
  _run([python, "-m", "venv", folder / "venv"])
  programs = folder / "venv" / "bin"
  _run([programs / "pip", "install", "-q", wheel])
  empty = folder / "empty"
  empty.mkdir()
  _run([programs / "python", "-c", _NAMES], cwd=empty)
  for command in _COMMANDS:
    _run([programs / "clim", *command], cwd=empty)


def _run(command: list, **where: pathlib.Path) -> None:
  shown = " ".join(str(part) for part in command if "\n" not in str(part))
  start = time.perf_counter()
  subprocess.run(command, check=True, **where)
  print(f"-- {shown}: {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
  main()
