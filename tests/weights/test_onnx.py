"""The ONNX graph, run by ONNX's own reference, computes our features."""

import numpy as np
import onnx
import onnx.reference
import pytest
from networks import (
  NARROW50,
  PREPROCESSING,
  SMALL,
  TINY,
  Network,
  assert_features_agree,
  features,
  variables,
)

from clim_jax.weights.export import export

NARROW_CIFAR = Network("resnet18", "cifar", 3)


def _exported(folder, network):
  path = folder / "a.onnx"
  export("onnx", path, *variables(network), network, PREPROCESSING)
  return onnx.load(path)


@pytest.mark.parametrize(
  ("network", "side"),
  [(TINY, 8), (SMALL, 32), (NARROW50, 32), (NARROW_CIFAR, 9)],
  ids=str,
)
def test_it_computes_our_features_from_plain_pixels(tmp_path, network, side):
  model = _exported(tmp_path, network)
  onnx.checker.check_model(model, full_check=True)
  pixels = np.random.default_rng(0).random((2, side, side, 3)).astype(np.float32)
  run = onnx.reference.ReferenceEvaluator(model).run
  (found,) = run(None, {"images": pixels.transpose(0, 3, 1, 2)})
  assert_features_agree(found, features(network, *variables(network), pixels))


@pytest.mark.parametrize(("rows", "side"), [(1, 8), (3, 11)])
def test_any_number_of_images_of_any_side_will_do(tmp_path, rows, side):
  model = _exported(tmp_path, TINY)
  pixels = np.random.default_rng(0).random((rows, side, side, 3)).astype(np.float32)
  run = onnx.reference.ReferenceEvaluator(model).run
  (found,) = run(None, {"images": pixels.transpose(0, 3, 1, 2)})
  assert_features_agree(found, features(TINY, *variables(TINY), pixels))


def test_inputs_and_outputs_are_described(tmp_path):
  graph = _exported(tmp_path, TINY).graph

  def dimensions(value):
    shape = value.type.tensor_type.shape.dim
    return value.name, [dim.dim_param or dim.dim_value for dim in shape]

  assert [dimensions(value) for value in graph.input] == [
    ("images", ["N", 3, "S", "S"])
  ]
  assert [dimensions(value) for value in graph.output] == [("features", ["N", 16])]


def test_old_runtimes_can_read_it(tmp_path):
  model = _exported(tmp_path, TINY)
  assert model.ir_version <= 8
  assert [imported.version for imported in model.opset_import] == [17]
