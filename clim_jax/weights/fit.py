"""Whether tensors are those of a network, by torchvision's names and shapes alone."""

import collections
import re
from collections.abc import Mapping

from clim_jax.models.resnet import ARCHITECTURES
from clim_jax.weights.error import WeightsError

Shape = tuple[int, ...]

_SHOWN = 5  # keys of each kind that an error names
_IN_BACKBONE = re.compile(r"(conv1|bn1|layer\d+\.\d+)\.")
_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.")
_STEMS = {7: "imagenet", 3: "cifar"}  # by the side of the first kernel


def check_fit(shapes: Mapping[str, Shape], needed: Mapping[str, Shape]) -> None:
  """Raises WeightsError unless the backbone in `shapes` is the one `needed`.

  What stands outside a backbone, such as a classifier, is passed over, and so are
  PyTorch's counters of batches.
  """
  missing = [name for name in sorted(needed) if name not in shapes]
  unexpected = [
    name
    for name in sorted(shapes)
    if name not in needed and _IN_BACKBONE.match(name) and not is_counter(name)
  ]
  wrong = [
    f"{name} {_text(shapes[name])} instead of {_text(shape)}"
    for name, shape in sorted(needed.items())
    if name in shapes and tuple(shapes[name]) != shape
  ]
  if not (missing or unexpected or wrong):
    return
  found, asked = describe(shapes), describe(needed)
  advice = (
    f"The file holds {found}, the config asks for {asked}: set model.backbone, "
    "model.stem and model.width to the file's, or give another file"
  )
  if found == asked and (missing or unexpected):
    advice = f"Both look like {found}, so the file is incomplete: get a whole one"
  elif found == asked:
    advice = (
      f"It is as deep as {found}, but of other widths: a wide ResNet or a ResNeXt"
    )
  raise WeightsError(
    f"the weights do not fit the network: {_listed('missing', missing)}; "
    f"{_listed('unexpected', unexpected)}; {_listed('of a wrong shape', wrong)}. "
    f"{advice}"
  )


def is_counter(name: str) -> bool:
  return name.endswith("num_batches_tracked")


def describe(shapes: Mapping[str, Shape]) -> str:
  """The network in words, such as "resnet50, stem imagenet, width 64"."""
  first = shapes.get("conv1.weight")
  if first is None or len(first) != 4:
    return "no ResNet"
  blocks = {found.groups() for found in map(_BLOCK.match, shapes) if found}
  per_stage = collections.Counter(int(stage) for stage, _ in blocks)
  sizes = tuple(count for _, count in sorted(per_stage.items()))
  expansion = 4 if "layer1.0.conv3.weight" in shapes else 1
  backbone = next(
    (
      name
      for name, (block, stage_sizes) in ARCHITECTURES.items()
      if (block.expansion, stage_sizes) == (expansion, sizes)
    ),
    f"a ResNet of {'bottleneck' if expansion == 4 else 'basic'} blocks {sizes}",
  )
  stem = _STEMS.get(first[-1], f"of a {first[-1]}×{first[-1]} kernel")
  return f"{backbone}, stem {stem}, width {first[0]}"


def _listed(what: str, keys: list[str]) -> str:
  shown = keys[:_SHOWN] + ["…"] * (len(keys) > _SHOWN)
  return f"{len(keys)} {what}" + (f" ({', '.join(shown)})" if keys else "")


def _text(shape: Shape) -> str:
  return "×".join(map(str, shape)) or "scalar"
