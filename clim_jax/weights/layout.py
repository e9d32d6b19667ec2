"""Our tree of a ResNet and the names of torchvision's state dicts, in NumPy.

Both describe the same network, so the maps are bit-exact: convolutions change from
HWIO to OIHW, dense kernels are transposed, and all else is renamed.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from clim_jax.weights.fit import Shape, check_fit

Tree = dict[str, Any]  # nested, of arrays
Path = tuple[str, ...]  # of a leaf in such a tree

_MODULES = {"downsample_conv": "downsample.0", "downsample_bn": "downsample.1"}
_LEAVES = {
  "kernel": "weight",
  "scale": "weight",
  "bias": "bias",
  "mean": "running_mean",
  "var": "running_var",
}
_TO_OIHW, _TO_HWIO = (3, 2, 0, 1), (2, 3, 1, 0)
# The layers of an nn.Sequential of linear, ReLU, linear: MoCo v2's head.
_MLP = {"projection1": "fc.0", "projection2": "fc.2"}


def to_torchvision(params: Tree, batch_stats: Tree) -> dict[str, np.ndarray]:
  """The backbone under torchvision's names: float32, convolutions OIHW, no fc."""
  tensors = {}
  for path, leaf in _backbone(params, batch_stats):
    leaf = np.asarray(leaf, np.float32)
    axes = _TO_OIHW if leaf.ndim == 4 else range(leaf.ndim)
    tensors[_name(path)] = np.array(leaf.transpose(axes), order="C")
  counters = [name for name in tensors if name.endswith("running_mean")]
  for name in counters:  # which PyTorch keeps, but reads for no momentum we know of
    counter = name.replace("running_mean", "num_batches_tracked")
    tensors[counter] = np.array(0, np.int64)
  return tensors


def torchvision_shapes(params: Tree, batch_stats: Tree) -> dict[str, Shape]:
  """The backbone's names and shapes there; leaves need have no more than a shape."""
  shapes = {}
  for path, leaf in _backbone(params, batch_stats):
    is_kernel = len(leaf.shape) == 4
    axes = _TO_OIHW if is_kernel else range(len(leaf.shape))
    shapes[_name(path)] = tuple(leaf.shape[axis] for axis in axes)
  return shapes


def from_torchvision(
  tensors: Mapping[str, np.ndarray], params: Tree, batch_stats: Tree
) -> tuple[Tree, Tree]:
  """The trees with their backbone replaced; other tensors and leaves are left alone.

  Raises WeightsError if the tensors are of another network than the trees.
  """
  shapes = {name: tensor.shape for name, tensor in tensors.items()}
  check_fit(shapes, torchvision_shapes(params, batch_stats))
  return _filled(params, tensors), _filled(batch_stats, tensors)


def projection_to_mlp(params: Tree) -> dict[str, np.ndarray]:
  """The projection as MoCo v2's head: fc.{0,2}.weight, [out, in], and bias, [out]."""
  tensors = {}
  for ours, theirs in _MLP.items():
    kernel = np.asarray(params[ours]["kernel"], np.float32)
    tensors[f"{theirs}.weight"] = np.array(kernel.T, order="C")
    tensors[f"{theirs}.bias"] = np.array(params[ours]["bias"], np.float32)
  return tensors


def projection_from_mlp(tensors: Mapping[str, np.ndarray], params: Tree) -> Tree | None:
  """The tree with its projection replaced; None if the tensors hold none that fits."""
  replaced = {}
  for ours, theirs in _MLP.items():
    weight, bias = tensors.get(f"{theirs}.weight"), tensors.get(f"{theirs}.bias")
    if ours not in params or weight is None or bias is None:
      return None
    needed = params[ours]
    if (weight.T.shape, bias.shape) != (needed["kernel"].shape, needed["bias"].shape):
      return None
    kernel = np.array(weight.T, needed["kernel"].dtype, order="C")
    replaced[ours] = {"kernel": kernel, "bias": np.array(bias, needed["bias"].dtype)}
  return {**params, **replaced}


def _backbone(params: Tree, batch_stats: Tree) -> Iterator[tuple[Path, Any]]:
  for tree in (params, batch_stats):
    yield from flatten_dict(tree["backbone"]).items()


def _name(path: Path) -> str:
  """("layer1_0", "conv1", "kernel") → "layer1.0.conv1.weight"."""
  *modules, leaf = path
  renamed = [_MODULES.get(module, module.replace("_", ".")) for module in modules]
  return ".".join([*renamed, _LEAVES[leaf]])


def _filled(tree: Tree, tensors: Mapping[str, np.ndarray]) -> Tree:
  backbone = {}
  for path, leaf in flatten_dict(tree["backbone"]).items():
    tensor = tensors[_name(path)]
    axes = _TO_HWIO if tensor.ndim == 4 else range(tensor.ndim)
    backbone[path] = np.array(tensor.transpose(axes), leaf.dtype, order="C")
  return {**tree, "backbone": unflatten_dict(backbone)}
