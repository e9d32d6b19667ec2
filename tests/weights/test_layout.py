"""Between our trees and torchvision's names: nothing is lost either way."""

import jax
import numpy as np
import pytest
from networks import (
  DIM,
  EVERY,
  HIDDEN,
  NARROW50,
  RESNET18,
  RESNET50,
  TINY,
  assert_same_bits,
  shapes,
  variables,
)

from clim_jax.weights.error import WeightsError
from clim_jax.weights.layout import (
  from_torchvision,
  projection_from_mlp,
  projection_to_mlp,
  to_torchvision,
  torchvision_shapes,
)


@pytest.mark.parametrize("network", EVERY, ids=str)
def test_there_and_back_is_bit_exact_for_every_architecture(network):
  ours, other = variables(network), variables(network, seed=1)
  tensors = to_torchvision(*ours)
  params, batch_stats = from_torchvision(tensors, *other)
  assert_same_bits(params["backbone"], ours[0]["backbone"])
  assert_same_bits(batch_stats, ours[1])
  assert_same_bits(to_torchvision(params, batch_stats), tensors)


def test_what_is_not_backbone_is_left_alone():
  other = variables(TINY, seed=1)
  tensors = to_torchvision(*variables(TINY)) | {"fc.weight": np.ones((2, 16))}
  params, _ = from_torchvision(tensors, *other)
  for name in ("projection1", "projection2"):
    assert_same_bits(params[name], other[0][name])


def test_only_shapes_are_needed_of_the_trees():
  ours = variables(TINY)
  params, batch_stats = from_torchvision(to_torchvision(*ours), *shapes(TINY))
  assert_same_bits(params["backbone"], ours[0]["backbone"])
  assert_same_bits(batch_stats, ours[1])
  assert params["projection1"] == shapes(TINY)[0]["projection1"]


def test_the_trees_that_are_given_stay_as_they_are():
  other = variables(TINY, seed=1)
  before = jax.tree.map(np.copy, other)
  from_torchvision(to_torchvision(*variables(TINY)), *other)
  assert_same_bits(other, before)


def test_arrays_of_jax_will_do():
  ours = variables(TINY)
  on_device = jax.tree.map(jax.numpy.asarray, ours)
  tensors = to_torchvision(*on_device)
  assert_same_bits(tensors, to_torchvision(*ours))
  assert all(tensor.flags.writeable for tensor in tensors.values())
  params, _ = from_torchvision(tensors, *on_device)
  assert_same_bits(params, ours[0])


def test_a_kernel_is_transposed_to_pytorchs_order():
  params, batch_stats = variables(TINY)
  kernel = params["backbone"]["layer2_0"]["conv1"]["kernel"]  # [3, 3, 4, 8]
  tensor = to_torchvision(params, batch_stats)["layer2.0.conv1.weight"]
  assert tensor.shape == (8, 4, 3, 3)
  assert tensor[5, 2, 0, 1] == kernel[0, 1, 2, 5]


def test_statistics_go_by_pytorchs_names():
  params, batch_stats = variables(TINY)
  tensors = to_torchvision(params, batch_stats)
  block = "layer2_0"
  for ours, theirs in (("bn1", "bn1"), ("downsample_bn", "downsample.1")):
    learned = params["backbone"][block][ours]
    running = batch_stats["backbone"][block][ours]
    for leaf, values in (
      ("weight", learned["scale"]),
      ("bias", learned["bias"]),
      ("running_mean", running["mean"]),
      ("running_var", running["var"]),
    ):
      np.testing.assert_array_equal(tensors[f"layer2.0.{theirs}.{leaf}"], values)
    counter = tensors[f"layer2.0.{theirs}.num_batches_tracked"]
    assert (counter.dtype, counter.shape, counter) == (np.int64, (), 0)


@pytest.mark.parametrize(
  ("network", "convolutions"), [(RESNET18, 20), (RESNET50, 53)], ids=str
)
def test_names_are_as_many_as_torchvisions(network, convolutions):
  # 4 tensors of each batch normalisation beside its convolution's.
  names = torchvision_shapes(*shapes(network))
  assert len(names) == 5 * convolutions
  assert names["conv1.weight"] == (64, 3, 7, 7)
  assert "layer1.0.downsample.0.weight" in names or network == RESNET18
  assert not any(name.startswith("fc") for name in names)


def test_half_precision_is_widened_without_loss():
  ours = variables(TINY)
  tensors = to_torchvision(*ours)
  halves = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
  params, _ = from_torchvision(halves, *ours)
  kernel = params["backbone"]["conv1"]["kernel"]
  assert kernel.dtype == np.float32
  np.testing.assert_array_equal(kernel.transpose(3, 2, 0, 1), halves["conv1.weight"])


def test_other_weights_do_not_fit():
  with pytest.raises(WeightsError, match="resnet50, stem imagenet, width 4"):
    from_torchvision(to_torchvision(*variables(NARROW50)), *variables(TINY))


def test_the_projection_there_and_back_is_bit_exact():
  params, _ = variables(TINY)
  tensors = projection_to_mlp(params)
  assert {name: tensor.shape for name, tensor in tensors.items()} == {
    "fc.0.weight": (HIDDEN, 16),
    "fc.0.bias": (HIDDEN,),
    "fc.2.weight": (DIM, HIDDEN),
    "fc.2.bias": (DIM,),
  }
  assert tensors["fc.0.weight"][3, 1] == params["projection1"]["kernel"][1, 3]
  other, _ = variables(TINY, seed=1)
  loaded = projection_from_mlp(tensors, other)
  assert_same_bits(loaded, params | {"backbone": other["backbone"]})
  assert_same_bits(projection_to_mlp(loaded), tensors)


@pytest.mark.parametrize("missing", ["fc.0.weight", "fc.2.bias"])
def test_half_a_projection_is_none(missing):
  params, _ = variables(TINY)
  tensors = projection_to_mlp(params)
  del tensors[missing]
  assert projection_from_mlp(tensors, params) is None


def test_a_projection_of_another_shape_does_not_fit():
  params, _ = variables(TINY)
  tensors = projection_to_mlp(params)
  tensors["fc.2.weight"] = tensors["fc.2.weight"][:-1]
  assert projection_from_mlp(tensors, params) is None
