"""Imports go downwards only, read from the source."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
# Each may import those before it and itself: maths knows nothing of data, data
# nothing of training; only the last layer sees a config.
LAYERS = [
  {"sharding", "rng", "batch", "memory"},
  {"photometric", "policy", "losses", "key_queue", "mixture"},
  {"augment", "augment_kernel", "kernel_ops", "models"},
  {"weights"},
  {"selection"},
  {"data"},
  {"train.state", "train.optim", "train.views", "train.objective"},
  {"train.step", "train.bank_step", "train.counted_step"},
  {"train.logs", "train.meter", "train.progress", "train.checkpoints"},
  {"evaluate.subjects", "evaluate.heads", "evaluate.sgd", "evaluate.label_subsets"},
  {"evaluate.knn", "evaluate.linear", "evaluate.few_label"},
  {"evaluate.linear_sgd", "evaluate.finetune", "evaluate.results", "evaluate.curves"},
  {"configuration", "limits", "evaluate.limits", "experiment"},
  {"cores", "runs", "evaluate.features", "evaluate.datasets"},
  {"evaluate.task", "evaluate.embed", "evaluate.online"},
  {"evaluate.frozen", "evaluate.trained"},
  {"evaluate.evaluation"},
  {"evaluate.report"},
  {"train.loop", "train.pretrain"},
  {"launch"},
]
CONFIG_LAYER = next(i for i, layer in enumerate(LAYERS) if "configuration" in layer)
FILES = sorted((ROOT / "clim_jax").rglob("*.py"))


def layer_of(module: str) -> int | None:
  """Of a dotted module below clim_jax; None for the package itself."""
  parts = module.removeprefix("clim_jax").lstrip(".").split(".")
  names = {parts[0], ".".join(parts[:2])}
  return next((i for i, layer in enumerate(LAYERS) if layer & names), None)


def imports(path: pathlib.Path) -> set[str]:
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
      found |= {f"{node.module}.{alias.name}" for alias in node.names}
  return found


def module_name(path: pathlib.Path) -> str:
  return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_a_module_imports_only_from_its_own_layer_or_below(path):
  module = module_name(path)
  if path.name == "__init__.py" and module != "clim_jax.selection.__init__":
    assert not any(name.startswith("clim_jax") for name in imports(path))
    return
  own = layer_of(module)
  assert own is not None, f"{module} stands in no layer"
  for name in imports(path):
    if name.startswith("clim_jax"):
      layer = layer_of(name)
      assert layer is not None, f"{module} imports {name}, which stands in no layer"
      assert layer <= own, f"{module} imports {name} from above"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_only_the_layers_above_the_library_see_a_config(path):
  own = layer_of(module_name(path))
  sees_config = any(name.startswith("ml_collections") for name in imports(path))
  assert not sees_config or (own is not None and own >= CONFIG_LAYER)


def test_tensorflow_stays_in_the_input_pipeline_and_the_logs():
  # A step must run where TensorFlow is not installed.
  for path in FILES:
    names = imports(path)
    if any(name.split(".")[0] in ("tensorflow", "clu") for name in names):
      assert module_name(path).startswith(("clim_jax.data.", "clim_jax.train.logs"))
