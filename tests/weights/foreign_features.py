"""What torchvision and timm compute: a script for a Python that has them.

Usage: python foreign_features.py JOBS.json. Each job names a `kind`, a `path`, a
`backbone`, the `images` ([B, 3, S, S] .npy, normalised) and the file of its `features`.
"""

import json
import pathlib
import sys

import numpy as np
import torch


def main(path):
  for job in json.loads(pathlib.Path(path).read_text()):
    torch.manual_seed(0)
    model = KINDS[job["kind"]](job).eval()
    with torch.no_grad():
      features = model(torch.from_numpy(np.load(job["images"])))
    np.save(job["features"], features.numpy())


def _theirs_from_ours(job):
  """torchvision's model with the state dict of an export; it lacks only fc."""
  model = _torchvision(job)
  if job["path"].endswith(".safetensors"):
    import safetensors.torch

    state = safetensors.torch.load_file(job["path"])
  else:
    state = torch.load(job["path"], weights_only=True)
  report = model.load_state_dict(state, strict=False)
  assert sorted(report.missing_keys) == ["fc.bias", "fc.weight"], report
  assert not report.unexpected_keys, report
  return _headless(model)


def _theirs_for_us(job):
  """Their model with random weights, which are saved."""
  model = _new_timm(job) if job["kind"].startswith("timm") else _torchvision(job)
  for name, tensor in model.state_dict().items():
    if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
      tensor.uniform_(0.5, 1.5)
    elif name.endswith(("running_mean", "bias")):
      tensor.uniform_(-0.3, 0.3)
  torch.save(model.state_dict(), job["path"])
  return _headless(model)


def _torchvision(job):
  import torchvision

  return torchvision.models.get_model(job["backbone"], weights=None)


def _new_timm(job):
  import timm

  return timm.create_model(job["backbone"], pretrained=False)


def _headless(model):
  model.fc = torch.nn.Identity()
  return model


def _timm(job):
  import timm

  model = timm.create_model("local-dir:" + job["path"], pretrained=True, num_classes=0)
  config = timm.data.resolve_model_data_config(model)
  pathlib.Path(job["features"] + ".json").write_text(json.dumps(config))
  return model


KINDS = {
  "torchvision from ours": _theirs_from_ours,
  "torchvision for us": _theirs_for_us,
  "timm for us": _theirs_for_us,
  "timm": _timm,
}

if __name__ == "__main__":
  main(sys.argv[1])
