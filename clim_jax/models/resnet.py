"""ResNets of He et al. 2016 (arXiv 1512.03385), laid out as torchvision's."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from clim_jax.models.convolution import Conv
from clim_jax.models.norm import GroupedBatchNorm
from clim_jax.models.operations import Operations


class BasicBlock(nn.Module):
  """Two 3×3 convolutions and a shortcut."""

  width: int
  stride: int
  conv: Callable[..., nn.Module]
  norm: Callable[..., nn.Module]
  expansion = 1

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    y = self.conv(self.width, 3, self.stride, name="conv1")(x)
    y = nn.relu(self.norm(name="bn1")(y, train=train))
    y = self.conv(self.width, 3, 1, name="conv2")(y)
    y = self.norm(name="bn2")(y, train=train)
    return nn.relu(y + _shortcut(self, x, y.shape, train=train))


class Bottleneck(nn.Module):
  """1×1, 3×3 (with the stride), 1×1 convolutions and a shortcut."""

  width: int
  stride: int
  conv: Callable[..., nn.Module]
  norm: Callable[..., nn.Module]
  expansion = 4

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    y = self.conv(self.width, 1, 1, name="conv1")(x)
    y = nn.relu(self.norm(name="bn1")(y, train=train))
    y = self.conv(self.width, 3, self.stride, name="conv2")(y)
    y = nn.relu(self.norm(name="bn2")(y, train=train))
    y = self.conv(self.width * self.expansion, 1, 1, name="conv3")(y)
    y = self.norm(name="bn3")(y, train=train)
    return nn.relu(y + _shortcut(self, x, y.shape, train=train))


def _shortcut(
  block: BasicBlock | Bottleneck, x: jax.Array, shape: tuple[int, ...], *, train: bool
) -> jax.Array:
  """The block's input, projected by a 1×1 convolution where its shape changes."""
  if x.shape == shape:
    return x
  x = block.conv(shape[-1], 1, block.stride, name="downsample_conv")(x)
  return block.norm(name="downsample_bn")(x, train=train)


class ResNet(nn.Module):
  """Images to globally pooled features; any side works, pooling is global."""

  block: type[BasicBlock] | type[Bottleneck]
  stage_sizes: tuple[int, ...]
  stem: str  # "imagenet": 7×7 stride 2 and max-pooling; "cifar": 3×3 stride 1
  width: int  # channels of the first stage
  groups: int  # batch-normalisation groups of the rows of one call
  operations: Operations
  dtype: Any

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """[B, S, S, 3] float → [B, F] float32."""
    by, dtype = self.operations, self.dtype
    conv = functools.partial(Conv, convolve=by.convolve, dtype=dtype)
    norm = functools.partial(
      GroupedBatchNorm, self.groups, row_sums=by.row_sums, dtype=dtype
    )
    x = images.astype(dtype)
    if self.stem == "imagenet":
      x = conv(self.width, 7, 2, name="conv1")(x)
    else:
      x = conv(self.width, 3, 1, name="conv1")(x)
    x = nn.relu(norm(name="bn1")(x, train=train))
    if self.stem == "imagenet":
      x = by.max_pool(x)
    for stage, blocks in enumerate(self.stage_sizes):
      for index in range(blocks):
        stride = 2 if stage > 0 and index == 0 else 1
        name = f"layer{stage + 1}_{index}"
        x = self.block(self.width * 2**stage, stride, conv, norm, name=name)(
          x, train=train
        )
    return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)


STEMS = ("imagenet", "cifar")
ARCHITECTURES: dict[
  str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]
] = {
  "resnet_small": (BasicBlock, (1, 1, 1)),
  "resnet18": (BasicBlock, (2, 2, 2, 2)),
  "resnet34": (BasicBlock, (3, 4, 6, 3)),
  "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


def feature_dim(backbone: str, width: int) -> int:
  """F, the channels of the last stage."""
  block, stage_sizes = ARCHITECTURES[backbone]
  return width * 2 ** (len(stage_sizes) - 1) * block.expansion
