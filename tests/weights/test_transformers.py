"""Against Hugging Face transformers' own ResNet, both ways, on random weights."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import json

import numpy as np
import pytest
import torch
import transformers
from networks import (
  NARROW18,
  PREPROCESSING,
  RESNET18,
  RESNET50,
  SMALL,
  Network,
  assert_features_agree,
  assert_same_bits,
  features,
  images,
  normalised,
  variables,
)
from PIL import Image

from clim_jax.weights.export import export
from clim_jax.weights.foreign import load_weights


def _their_features(model, pixels):
  with torch.no_grad():
    out = model.eval()(torch.from_numpy(normalised(pixels)))
  return out.pooler_output[:, :, 0, 0].numpy()


def _randomise(model):
  """Running statistics and scales too, which a fresh model leaves at 0 and 1."""
  generator = torch.Generator().manual_seed(0)
  for name, tensor in model.state_dict().items():
    if name.endswith(("running_var", "normalization.weight")):
      tensor.uniform_(0.5, 1.5, generator=generator)
    elif name.endswith(("running_mean", "normalization.bias")):
      tensor.uniform_(-0.3, 0.3, generator=generator)
  return model


@pytest.mark.parametrize("network", [SMALL, RESNET18, RESNET50], ids=str)
def test_their_model_computes_our_features(tmp_path, network):
  ours = variables(network)
  export("transformers", tmp_path, *ours, network, PREPROCESSING)
  model, report = transformers.ResNetModel.from_pretrained(
    tmp_path, output_loading_info=True
  )
  assert not any(report.values()), report
  found = _their_features(model, images())
  assert_features_agree(found, features(network, *ours))


@pytest.mark.parametrize(
  ("network", "layer_type"), [(RESNET18, "basic"), (RESNET50, "bottleneck")], ids=str
)
@pytest.mark.parametrize("kind", ["ResNetModel", "ResNetForImageClassification"])
def test_we_compute_their_models_features(tmp_path, network, layer_type, kind):
  expansion = 1 if layer_type == "basic" else 4
  config = transformers.ResNetConfig(
    depths=[2, 2, 2, 2] if layer_type == "basic" else [3, 4, 6, 3],
    hidden_sizes=[expansion * width for width in (64, 128, 256, 512)],
    layer_type=layer_type,
  )
  torch.manual_seed(0)
  whole = _randomise(getattr(transformers, kind)(config))
  whole.save_pretrained(tmp_path)
  loaded = load_weights(tmp_path, *variables(network))
  assert loaded.layout == "transformers"
  found = features(network, loaded.params, loaded.batch_stats)
  assert_features_agree(found, _their_features(whole.base_model, images()))


@pytest.mark.parametrize(
  "network", [SMALL, NARROW18, Network("resnet50", "imagenet", 4)], ids=str
)
def test_an_export_is_loaded_again_bit_for_bit(tmp_path, network):
  params, batch_stats = variables(network)
  export("transformers", tmp_path, params, batch_stats, network, PREPROCESSING)
  loaded = load_weights(tmp_path, *variables(network, seed=1))
  assert_same_bits(loaded.params["backbone"], params["backbone"])
  assert_same_bits(loaded.batch_stats, batch_stats)


def test_their_processor_prepares_images_as_the_evaluation_does(tmp_path):
  # Of sides of which nothing is rounded: the central 56 of 64 pixels, halved.
  preprocessing = PREPROCESSING._replace(side=28)
  export("transformers", tmp_path, *variables(SMALL), SMALL, preprocessing)
  processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
  pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
  found = processor(Image.fromarray(pixels), return_tensors="np")["pixel_values"]
  crop = Image.fromarray(pixels[4:60, 20:76]).resize((28, 28), Image.BILINEAR)
  expected = normalised(np.float32(crop)[None] / 255)
  # The outermost pixels differ: theirs are resized together with what is cut off.
  inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
  np.testing.assert_allclose(found[inner], expected[inner], atol=1e-5)


def test_the_processors_fields_follow_the_preprocessing(tmp_path):
  odd = PREPROCESSING._replace(side=448)
  export("transformers", tmp_path, *variables(SMALL), SMALL, odd)
  fields = json.loads((tmp_path / "preprocessor_config.json").read_text())
  record = json.loads((tmp_path / "preprocessing.json").read_text())
  assert fields["size"] == {"shortest_edge": 512} == {"shortest_edge": record["resize"]}
  assert fields["crop_size"] == {"height": 448, "width": 448}
  assert fields["image_mean"] == record["mean"] == list(odd.pixel_mean)
  assert fields["image_std"] == record["std"] == list(odd.pixel_std)
  assert fields["resample"] == Image.Resampling.BILINEAR
