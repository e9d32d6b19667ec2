"""Files of other projects, built from their published names, load bit for bit."""

import json

import numpy as np
import published
import pytest
import torch
from networks import (
  DIM,
  HIDDEN,
  NARROW18,
  NARROW50,
  SMALL,
  TINY,
  Network,
  assert_features_agree,
  assert_same_bits,
  features,
  variables,
)

from clim_jax.weights.error import WeightsError
from clim_jax.weights.files import write_safetensors
from clim_jax.weights.foreign import load_weights
from clim_jax.weights.layout import projection_to_mlp, to_torchvision


def _as_torch(value):
  if isinstance(value, np.ndarray):
    return torch.from_numpy(value.copy())
  if isinstance(value, dict):
    return {name: _as_torch(inner) for name, inner in value.items()}
  return value


def _save(path, content):
  if path.suffix == ".safetensors":
    write_safetensors(path, content)
  else:
    torch.save(_as_torch(content), path)
  return path


@pytest.mark.parametrize("build", published.FILES, ids=lambda build: build.__name__)
def test_each_projects_file_is_recognised_and_loaded_bit_for_bit(tmp_path, build):
  params, batch_stats = variables(NARROW50)
  backbone = to_torchvision(params, batch_stats)
  path = _save(tmp_path / "a.pth.tar", build(backbone, projection_to_mlp(params)))
  other = variables(NARROW50, seed=1)
  loaded = load_weights(path, *other)
  whose, ignored = published.FILES[build]
  assert (loaded.layout, loaded.projection) == (whose, build is published.moco_v2)
  projected = params if loaded.projection else other[0]
  assert_same_bits(loaded.params, projected | {"backbone": params["backbone"]})
  assert_same_bits(loaded.batch_stats, batch_stats)
  assert_same_bits(to_torchvision(loaded.params, loaded.batch_stats), backbone)
  assert len(loaded.ignored) == ignored
  if loaded.projection:
    assert_same_bits(projection_to_mlp(loaded.params), projection_to_mlp(params))


def test_ignored_tensors_go_by_their_names_in_the_file(tmp_path):
  params, batch_stats = variables(NARROW50)
  content = published.swav(to_torchvision(params, batch_stats), None)
  loaded = load_weights(_save(tmp_path / "a.pth", content), params, batch_stats)
  assert {"module.prototypes.weight", "module.projection_head.1.running_var"} <= set(
    loaded.ignored
  )
  assert set(loaded.ignored) <= set(content)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("network", [TINY, SMALL, NARROW18], ids=str)
def test_features_survive_a_file(tmp_path, network, suffix):
  ours, other = variables(network), variables(network, seed=1)
  path = _save(tmp_path / f"a{suffix}", to_torchvision(*ours))
  loaded = load_weights(path, *other)
  found = features(network, loaded.params, loaded.batch_stats)
  expected = features(network, *ours)
  np.testing.assert_array_equal(found, expected)
  assert np.abs(features(network, *other) - expected).max() > 0.01


def test_a_projection_of_another_size_is_left_as_it_is(tmp_path):
  params, batch_stats = variables(NARROW50)
  head = published.linear("fc.0", published.FEATURES, HIDDEN + 1)
  head |= published.linear("fc.2", HIDDEN + 1, DIM)
  content = published.moco(to_torchvision(params, batch_stats), head)
  loaded = load_weights(_save(tmp_path / "a.pth", content), params, batch_stats)
  assert not loaded.projection
  assert_same_bits(loaded.params["projection1"], params["projection1"])
  assert "module.encoder_q.fc.0.weight" in loaded.ignored


@pytest.mark.parametrize(
  ("network", "told"),
  [
    (
      NARROW18,  # all its names are there, some of other shapes, and more
      "0 missing; 165 unexpected (layer1.0.bn3.bias",
    ),
    (
      Network("resnet50", "cifar", 4),
      "0 missing; 0 unexpected; 1 of a wrong shape "
      "(conv1.weight 4×3×7×7 instead of 4×3×3×3)",
    ),
    (TINY, "layer1.0.conv1.weight 4×4×1×1 instead of 4×4×3×3"),
  ],
  ids=str,
)
def test_another_networks_weights_are_told_with_the_first_keys(tmp_path, network, told):
  path = _save(tmp_path / "a.pth", to_torchvision(*variables(NARROW50)))
  with pytest.raises(WeightsError) as caught:
    load_weights(path, *variables(network))
  message = str(caught.value)
  assert message.startswith(f"{path}: the weights do not fit")
  assert told in message
  assert "The file holds resnet50, stem imagenet, width 4" in message
  assert f"the config asks for {network}" in message
  assert message.count("instead of") <= 5


def test_deeper_weights_of_like_shapes_are_no_fit(tmp_path):
  # All that a ResNet-18 needs is in a ResNet-34, and more.
  deeper = Network("resnet34", "imagenet", 4)
  path = _save(tmp_path / "a.pth", to_torchvision(*variables(deeper)))
  with pytest.raises(WeightsError, match=r"0 missing; 80 unexpected \(layer1\.2"):
    load_weights(path, *variables(NARROW18))


def test_an_incomplete_file_is_told(tmp_path):
  ours = variables(TINY)
  tensors = to_torchvision(*ours)
  for name in ("bn1.running_var", "layer3.0.conv2.weight"):
    del tensors[name]
  path = _save(tmp_path / "a.safetensors", tensors)
  with pytest.raises(WeightsError, match=r"2 missing .*bn1\.running_var") as caught:
    load_weights(path, *ours)
  assert "incomplete" in str(caught.value)


def test_weights_of_no_resnet_are_told(tmp_path):
  tensors = published.linear("blocks.0.attn.qkv", 8, 24)
  path = _save(tmp_path / "a.safetensors", tensors)
  with pytest.raises(WeightsError, match=r"a vision transformer; .*blocks\.0\.attn"):
    load_weights(path, *variables(TINY))


def test_a_vision_transformer_of_dino_is_told(tmp_path):
  content = {"teacher": published.linear("backbone.blocks.0.attn.qkv", 8, 24)}
  path = _save(tmp_path / "a.pth", content)
  with pytest.raises(WeightsError, match="looks like a vision transformer"):
    load_weights(path, *variables(TINY))


@pytest.mark.parametrize(
  ("field", "value"), [("downsample_in_bottleneck", True), ("hidden_act", "gelu")]
)
@pytest.mark.parametrize("give", ["folder", "file"])
def test_a_config_of_another_network_is_refused(tmp_path, field, value, give):
  # Such weights have our names and shapes, but mean another function.
  ours = variables(SMALL)
  path = tmp_path / "model.safetensors"
  write_safetensors(path, published.transformers(to_torchvision(*ours), None))
  (tmp_path / "config.json").write_text(json.dumps({field: value}))
  with pytest.raises(WeightsError, match=f"sets {field} to {value!r}"):
    load_weights(tmp_path if give == "folder" else path, *ours)


def test_a_config_beside_torchvisions_names_says_nothing(tmp_path):
  ours = variables(SMALL)
  path = _save(tmp_path / "model.safetensors", to_torchvision(*ours))
  (tmp_path / "config.json").write_text("not for us")
  loaded = load_weights(path, *ours)
  assert_features_agree(
    features(SMALL, loaded.params, loaded.batch_stats), features(SMALL, *ours)
  )


def _sequential(backbone):
  """As lightly's tutorials keep it: nn.Sequential(*list(resnet.children())[:-1])."""
  places = {"conv1": "0", "bn1": "1"} | {f"layer{n}": str(n + 3) for n in range(1, 5)}
  parts = ((name.partition("."), tensor) for name, tensor in backbone.items())
  return {f"{places[first]}.{rest}": tensor for (first, _, rest), tensor in parts}


@pytest.mark.parametrize(
  "prefix",
  [
    *("module.encoder.", "_orig_mod.", "module._orig_mod.", "backbone.", "model.net."),
    *("model.module.encoder_q._orig_mod.", "student.backbone.", "encoder_k."),
  ],
)
@pytest.mark.parametrize("rename", [dict, _sequential])
def test_whatever_stands_before_the_names_is_stripped(tmp_path, prefix, rename):
  ours = variables(NARROW50)
  content = published.prefixed(prefix, rename(to_torchvision(*ours)))
  content |= published.linear("projector.0", 4, 4) | published.linear("fc", 4, 4)
  if prefix == "backbone.":
    content = {n: t for n, t in content.items() if not n.startswith("projector")}
  path = _save(tmp_path / "a.safetensors", content)
  loaded = load_weights(path, *variables(NARROW50, seed=1))
  assert_same_bits(
    to_torchvision(loaded.params, loaded.batch_stats), to_torchvision(*ours)
  )
  assert loaded.layout.startswith("torchvision")


@pytest.mark.parametrize(
  ("trained", "slow"),
  [("backbone.", "backbone_momentum."), ("online.net.", "target.net.")],
)
def test_of_two_copies_the_one_that_is_trained_is_taken(tmp_path, trained, slow):
  ours = variables(TINY)
  backbone = to_torchvision(*ours)
  content = published.prefixed(slow, published.doubled(backbone))
  content |= published.prefixed(trained, backbone)
  loaded = load_weights(_save(tmp_path / "a.pth", content), *variables(TINY, seed=1))
  assert_same_bits(to_torchvision(loaded.params, loaded.batch_stats), backbone)


def test_two_networks_that_nothing_tells_apart_are_refused(tmp_path):
  backbone = to_torchvision(*variables(TINY))
  content = published.prefixed("left.", backbone) | published.prefixed(
    "right.", backbone
  )
  path = _save(tmp_path / "a.pth", content)
  with pytest.raises(WeightsError, match=r"several ResNets, left\., right\."):
    load_weights(path, *variables(TINY))


@pytest.mark.parametrize(
  ("name", "told"),
  [
    ("layers.0.blocks.0.attn.qkv", "a Swin"),
    ("encoder.layers.encoder_layer_0.ln_1", "a vision transformer"),
    ("features.denseblock1.denselayer1.norm1", "a DenseNet"),
    ("conv1.0", "a deep stem"),
    ("nothing.known", "no ResNet is found among 2 tensors; the first"),
  ],
)
def test_the_error_says_which_network_it_looks_like(tmp_path, name, told):
  path = _save(tmp_path / "a.safetensors", published.linear(name, 8, 24))
  with pytest.raises(WeightsError, match=told):
    load_weights(path, *variables(TINY))
