"""The peer of our search: blocked products and `topk` in PyTorch; run by a phase.

Takes a JSON object of options and prints one of figures. Blocks of queries meet all
rows at once where memory allows; of a large bank some blocks stand for all.
"""

import json
import sys
import time

import torch


def main() -> None:
  options = json.loads(sys.argv[1])
  device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
  torch.manual_seed(0)
  torch.backends.cuda.matmul.allow_tf32 = False
  rows, dim, block = options["rows"], options["dim"], options["block"]
  bank = torch.randn(rows, dim, device=device, dtype=getattr(torch, options["dtype"]))
  bank = torch.nn.functional.normalize(bank, dim=1)

  def search(start: int) -> torch.Tensor:
    queries = bank[start : start + block]
    similarity = queries @ bank.T
    own = torch.arange(len(queries), device=device)
    similarity[own, own + start] = -torch.inf
    return similarity.topk(options["neighbours"]).indices.cpu()

  starts = range(0, rows, block)
  sampled = list(starts)[: options["blocks"]]
  search(0)
  started = time.perf_counter()
  for start in sampled:
    search(start)
  seconds = (
    (time.perf_counter() - started)
    * rows
    / sum(min(block, rows - start) for start in sampled)
  )
  figures = {
    "torch": torch.__version__,
    "rows": rows,
    "dim": dim,
    "dtype": options["dtype"],
    "seconds": seconds,
    "share_measured": len(sampled) / len(starts),
    "tflops": 2e-12 * rows**2 * dim / seconds,
  }
  print(json.dumps(figures))


if __name__ == "__main__":
  main()
