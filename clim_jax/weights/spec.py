"""What an export says besides the weights: the network, and what it was fed."""

import json
from typing import Any, NamedTuple

from etils import epath


class Network(NamedTuple):
  backbone: str  # a name in ARCHITECTURES
  stem: str
  width: int  # channels of the first stage

  def __str__(self) -> str:
    return f"{self.backbone}, stem {self.stem}, width {self.width}"


class Preprocessing(NamedTuple):
  """The evaluation's: a central square, resized to `side`, then normalised."""

  side: int
  crop_fraction: float  # of the shorter side
  pixel_mean: tuple[float, float, float]  # of RGB in [0, 1]
  pixel_std: tuple[float, float, float]

  @property
  def resize(self) -> int:
    """The shorter side to resize to, for those who resize first and then crop."""
    return round(self.side / self.crop_fraction)


def recorded(weights: epath.Path) -> Preprocessing | None:
  """What an export of ours was fed, by the file beside it or in its folder."""
  for path in (
    weights.parent / f"{weights.name}.preprocessing.json",
    (weights if weights.is_dir() else weights.parent) / "preprocessing.json",
  ):
    if path.exists():
      fields = json.loads(path.read_text())
      if not {"side", "crop_fraction", "mean", "std"} <= fields.keys():
        return None  # somebody else's
      return Preprocessing(
        fields["side"],
        fields["crop_fraction"],
        tuple(fields["mean"]),
        tuple(fields["std"]),
      )
  return None


def record(network: Network, preprocessing: Preprocessing) -> dict[str, Any]:
  """The content of preprocessing.json, which every format gets."""
  return {
    "network": network._asdict(),
    "crop": "center",
    "crop_fraction": preprocessing.crop_fraction,
    "side": preprocessing.side,
    "resize": preprocessing.resize,
    "interpolation": "bilinear",
    "antialias": True,
    "channel_order": "RGB",
    "value_range": [0, 1],
    "mean": list(preprocessing.pixel_mean),
    "std": list(preprocessing.pixel_std),
  }
