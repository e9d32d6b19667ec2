"""ONNX graphs from pixels to pooled features; needs the extra `onnx`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from clim_jax.models.norm import GroupedBatchNorm
from clim_jax.models.resnet import ARCHITECTURES, feature_dim
from clim_jax.weights.error import require
from clim_jax.weights.fit import is_counter
from clim_jax.weights.spec import Network, Preprocessing

_OPSET, _IR_VERSION = 17, 8  # of 2022: old enough for the runtimes in use


def write(
  output: epath.Path,
  tensors: Mapping[str, np.ndarray],
  network: Network,
  preprocessing: Preprocessing,
) -> None:
  """images, [N, 3, S, S] float32 RGB in [0, 1] → features, [N, F] float32."""
  onnx = require("onnx")
  graph = _Graph(onnx, tensors)
  features = graph.resnet(graph.normalised("images", preprocessing), network)
  graph.nodes.append(onnx.helper.make_node("Flatten", [features], ["features"], axis=1))
  kind = onnx.TensorProto.FLOAT
  described = onnx.helper.make_tensor_value_info
  shape = ("N", feature_dim(network.backbone, network.width))
  model = onnx.helper.make_model(
    onnx.helper.make_graph(
      graph.nodes,
      network.backbone,
      [described("images", kind, ("N", 3, "S", "S"))],
      [described("features", kind, shape)],
      graph.constants,
    ),
    opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
    ir_version=_IR_VERSION,
    producer_name="clim_jax",
  )
  onnx.checker.check_model(model, full_check=True)
  output.write_bytes(model.SerializeToString())


class _Graph:
  """Nodes as they are appended; each value is named after its place in the graph."""

  def __init__(self, onnx: Any, tensors: Mapping[str, np.ndarray]) -> None:
    self._onnx = onnx
    self._tensors = tensors
    self.nodes: list[Any] = []
    self.constants = [
      onnx.numpy_helper.from_array(tensor, name)
      for name, tensor in tensors.items()
      if not is_counter(name)
    ]

  def normalised(self, images: str, preprocessing: Preprocessing) -> str:
    shape = (1, 3, 1, 1)  # broadcast over rows and pixels
    for name in ("pixel_mean", "pixel_std"):
      values = np.asarray(getattr(preprocessing, name), np.float32).reshape(shape)
      self.constants.append(self._onnx.numpy_helper.from_array(values, name))
    centered = self._append("Sub", images, "pixel_mean")
    return self._append("Div", centered, "pixel_std")

  def resnet(self, x: str, network: Network) -> str:
    """[N, 3, S, S] → [N, F, 1, 1], as `models.resnet.ResNet`."""
    is_imagenet = network.stem == "imagenet"
    x = self._relu(self._convolved(x, "conv1", "bn1", 2 if is_imagenet else 1))
    if is_imagenet:
      window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
      x = self._append("MaxPool", x, **window)
    _, stage_sizes = ARCHITECTURES[network.backbone]
    for stage, blocks in enumerate(stage_sizes):
      for index in range(blocks):
        stride = 2 if stage > 0 and index == 0 else 1
        x = self._block(x, f"layer{stage + 1}.{index}", stride)
    return self._append("GlobalAveragePool", x)

  def _block(self, x: str, name: str, stride: int) -> str:
    is_bottleneck = f"{name}.conv3.weight" in self._tensors
    last, strided = (3, 2) if is_bottleneck else (2, 1)
    y = x
    for index in range(1, last + 1):
      step = stride if index == strided else 1
      y = self._convolved(y, f"{name}.conv{index}", f"{name}.bn{index}", step)
      y = y if index == last else self._relu(y)
    if f"{name}.downsample.0.weight" in self._tensors:
      names = f"{name}.downsample.0", f"{name}.downsample.1"
      x = self._convolved(x, *names, stride)
    return self._relu(self._append("Add", y, x))

  def _convolved(self, x: str, convolution: str, norm: str, stride: int) -> str:
    """A convolution, padded as PyTorch's, and its batch normalisation."""
    kernel = f"{convolution}.weight"
    side = self._tensors[kernel].shape[-1]
    around = {"strides": [stride] * 2, "pads": [side // 2] * 4}
    y = self._append("Conv", x, kernel, **around)
    leaves = ("weight", "bias", "running_mean", "running_var")
    inputs = [f"{norm}.{leaf}" for leaf in leaves]
    epsilon = GroupedBatchNorm.epsilon
    return self._append("BatchNormalization", y, *inputs, epsilon=epsilon)

  def _relu(self, x: str) -> str:
    return self._append("Relu", x)

  def _append(self, operator: str, *inputs: str, **attributes: Any) -> str:
    output = f"{operator.lower()}_{len(self.nodes)}"
    make_node = self._onnx.helper.make_node
    self.nodes.append(make_node(operator, inputs, [output], **attributes))
    return output
