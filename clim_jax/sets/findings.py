"""What looking through a set has found: who is broken, who is there twice."""

from collections.abc import Iterator
from typing import NamedTuple

from clim_jax.data.sight import Sight


class Seen(NamedTuple):
  """An image of a set."""

  part: str  # train or test
  name: str
  label: str  # "": none
  sight: Sight


class Findings(NamedTuple):
  """Images by their places in `seen`, those of training first."""

  seen: list[Seen]
  copies: list[list[int]]  # groups of the same pixels
  near: list[tuple[int, int, float]]  # pairs that look the same, and their cosine

  def broken(self) -> dict[str, str]:
    """Names and why they cannot be decoded."""
    return {one.name: one.sight.fault for one in self.seen if one.sight.fault}

  def to_leave_out(self) -> dict[str, str]:
    """Names and why: of copies one stays, and it is the test image if there is one."""
    out = {name: f"broken: {why}" for name, why in self.broken().items()}
    for group in self.copies:
      stays = next((at for at in group if self.seen[at].part == "test"), group[0])
      like = self.seen[stays].name
      out |= {self.seen[at].name: f"same as {like}" for at in group if at != stays}
    return out

  def near_ones(self) -> dict[str, str]:
    """Names and why, of pairs the later; of one over both parts that of training."""
    out: dict[str, str] = {}
    for one, other, cosine in self.near:
      first, second = self.seen[one], self.seen[other]
      if first.part != second.part:
        first, second = second, first
      out.setdefault(second.name, f"nearly {first.name} ({cosine:.3f})")
    return out

  def in_both_parts(self) -> Iterator[tuple[str, str]]:
    """(training image, test image) of the same pixels."""
    for group in self.copies:
      tests = [self.seen[at].name for at in group if self.seen[at].part == "test"]
      for at in group:
        if tests and self.seen[at].part == "train":
          yield self.seen[at].name, tests[0]

  def of_two_classes(self) -> list[list[str]]:
    """Groups of the same pixels whose labels differ."""
    return [
      [self.seen[at].name for at in group]
      for group in self.copies
      if len({self.seen[at].label for at in group} - {""}) > 1
    ]
