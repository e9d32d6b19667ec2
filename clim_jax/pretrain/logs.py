"""What a run writes about itself: metrics.jsonl and TensorBoard events."""

import json
import math

from clu import metric_writers
from etils import epath

Scalars = dict[str, float | int]
Record = dict[str, float | int | None]  # as written: what is not finite is None


class MetricLog:
  """One JSON object a logged step, and the same to TensorBoard."""

  def __init__(
    self, workdir: epath.Path, *, resume_step: int, tensorboard: bool
  ) -> None:
    """Lines beyond `resume_step`, of a session that died, are dropped."""
    path = workdir / "metrics.jsonl"
    kept = []
    if path.exists():
      lines = path.read_text().splitlines(keepends=True)
      kept = [line for line in lines if json.loads(line)["step"] <= resume_step]
    path.write_text("".join(kept))
    self.kept = [json.loads(line) for line in kept]  # of earlier sessions
    self._file = path.open("a")
    self._tensorboard = (
      metric_writers.SummaryWriter(str(workdir)) if tensorboard else None
    )

  def write(self, step: int, scalars: Scalars) -> None:
    record: Record = {"step": step} | {
      name: value if math.isfinite(value) else None for name, value in scalars.items()
    }
    self._file.write(json.dumps(record) + "\n")
    self._file.flush()
    if self._tensorboard is not None:
      self._tensorboard.write_scalars(step, scalars)

  def close(self) -> None:
    self._file.close()
    if self._tensorboard is not None:
      self._tensorboard.close()
