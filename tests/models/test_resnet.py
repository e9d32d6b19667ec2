import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clim_jax.models import resnet
from clim_jax.models.operations import BY_XLA, FOR_CPU
from clim_jax.models.resnet import ARCHITECTURES, STEMS, ResNet, feature_dim


def _model(backbone, stem, *, width=4, groups=1, dtype=jnp.float32):
  return ResNet(*ARCHITECTURES[backbone], stem, width, groups, FOR_CPU, dtype)


def _shapes(model, shape, *, train=False):
  """Shapes of the features and of every module's output, without computing."""
  images = jax.ShapeDtypeStruct(shape, jnp.float32)
  init = functools.partial(model.init, train=train, capture_intermediates=True)
  variables = jax.eval_shape(init, jax.random.key(0), images)
  return variables, variables["intermediates"]


@functools.cache
def _small(dtype=jnp.float32, stem="cifar"):
  """A model and any variables: true initialisation takes seconds to compile."""
  model, rng = _model("resnet_small", stem, dtype=dtype), np.random.default_rng(1)
  shapes, _ = _shapes(model, (1, 8, 8, 3))
  shapes.pop("intermediates")

  def draw(leaf):
    low, high = (-0.1, 0.3) if len(leaf.shape) > 1 else (0.5, 1.5)  # no map dies
    return rng.uniform(low, high, leaf.shape).astype(leaf.dtype)

  return model, jax.tree.map(draw, shapes)


def _images(side, rows=4):
  shape = (rows, side, side, 3)
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


# torchvision's published totals with the classifier of 1000 classes.
@pytest.mark.parametrize(
  ("backbone", "total"),
  [("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032)],
)
def test_parameters_are_as_many_as_torchvisions_without_the_classifier(backbone, total):
  model = _model(backbone, "imagenet", width=64)
  variables, _ = _shapes(model, (1, 64, 64, 3))
  count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
  assert count == total - (feature_dim(backbone, 64) * 1000 + 1000)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("backbone", ARCHITECTURES)
def test_features_have_the_announced_width(backbone, stem):
  _, outputs = _shapes(_model(backbone, stem), (2, 32, 32, 3))
  (features,) = outputs["__call__"]
  assert features.shape == (2, feature_dim(backbone, 4))
  assert features.dtype == jnp.float32


def test_published_feature_widths():
  widths = {name: feature_dim(name, 64) for name in ARCHITECTURES}
  published = {"resnet18": 512, "resnet34": 512, "resnet50": 2048}
  assert widths == published | {"resnet_small": 256}


@pytest.mark.parametrize(
  ("backbone", "stem", "side", "sides"),
  [
    ("resnet50", "imagenet", 224, (112, 56, 28, 14, 7)),
    ("resnet18", "imagenet", 96, (48, 24, 12, 6, 3)),
    ("resnet18", "cifar", 32, (32, 32, 16, 8, 4)),
    ("resnet50", "cifar", 33, (33, 33, 17, 9, 5)),
  ],
)
def test_every_stage_halves_the_map_as_published(backbone, stem, side, sides):
  _, outputs = _shapes(_model(backbone, stem), (1, side, side, 3))
  stages = [outputs[f"layer{stage}_0"] for stage in range(1, 5)]
  found = [o["__call__"][0].shape[1] for o in (outputs["conv1"], *stages)]
  assert tuple(found) == sides


@pytest.mark.parametrize("side", [1, 7, 12])
@pytest.mark.parametrize("stem", STEMS)
def test_any_side_works_with_the_same_parameters(stem, side):
  model, variables = _small(stem=stem)
  features = model.apply(variables, _images(side), train=False)
  assert features.shape == (4, feature_dim("resnet_small", 4))
  assert np.isfinite(features).all()


def test_features_are_means_over_places():
  model, variables = _small()
  _, captured = model.apply(
    variables, _images(12), train=False, capture_intermediates=True
  )
  outputs = captured["intermediates"]
  maps, features = outputs["layer3_0"]["__call__"][0], outputs["__call__"][0]
  assert maps.shape[1:3] == (3, 3)
  np.testing.assert_allclose(features, np.mean(maps, axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize("block", [resnet.BasicBlock, resnet.Bottleneck])
def test_a_block_of_zero_kernels_is_its_shortcut(block):
  width = 8 // block.expansion
  dtype = jnp.float32
  conv = functools.partial(resnet.Conv, convolve=BY_XLA.convolve, dtype=dtype)
  norm = functools.partial(
    resnet.GroupedBatchNorm, 1, row_sums=BY_XLA.row_sums, dtype=dtype
  )
  module = block(width, 1, conv, norm)
  x = np.random.default_rng(0).normal(size=(2, 4, 4, 8)).astype(np.float32)
  shapes = jax.eval_shape(
    functools.partial(module.init, train=False), jax.random.key(0), x
  )
  assert not any("downsample" in name for name in shapes["params"])
  zeros = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
  np.testing.assert_array_equal(module.apply(zeros, x, train=False), np.maximum(x, 0))


def test_half_precision_keeps_features_parameters_and_statistics_wide():
  model, variables = _small(jnp.bfloat16)
  features, updated = model.apply(
    variables, _images(8), train=True, mutable=["batch_stats"]
  )
  for leaf in jax.tree.leaves((features, variables, updated)):
    assert leaf.dtype == jnp.float32
  wide, _ = _small()[0].apply(
    variables, _images(8), train=True, mutable=["batch_stats"]
  )
  # bfloat16 keeps 8 bits; some dozen roundings in a row.
  np.testing.assert_allclose(features, wide, atol=0.05 * np.abs(wide).max())
  assert not np.array_equal(features, wide)


def test_groups_reach_every_normalisation():
  # Two groups of one call are two calls.
  _, variables = _small()
  images = _images(8, rows=8)
  outs = [
    _model("resnet_small", "cifar", groups=groups).apply(
      variables, part, train=True, mutable=["batch_stats"]
    )
    for groups, part in ((2, images), (1, images[:4]), (1, images[4:]))
  ]
  (both, both_stats), (first, first_stats), (second, second_stats) = outs
  np.testing.assert_allclose(both, np.concatenate([first, second]), atol=1e-5)
  jax.tree.map(
    lambda a, b, c: np.testing.assert_allclose(a, (b + c) / 2, atol=1e-5),
    both_stats,
    first_stats,
    second_stats,
  )
