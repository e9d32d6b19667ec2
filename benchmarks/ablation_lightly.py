"""The arm of another library: MoCo v2 by lightly; run as a process of its own.

  benchmarks/setup_peers.sh
  python benchmarks/ablation_lightly.py [arguments of main.py]

Is the MoCo v2 that the other arms are held against a straw man? lightly trains on the
same file, with the network and the values of the same config, in the peers'
environment; the protocols that judge every run then judge its features. Two things
differ: batch normalisation is over the whole batch, where a run of ours has
`model.batch_norm_groups` groups and shuffles keys between them; and all is in float32,
where a run of ours is in bfloat16 on a GPU.
"""

import dataclasses
import functools
import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks import peer_process
from clim_jax import sharding
from clim_jax.command_line.parse import parse
from clim_jax.evaluate import feature_protocols, results
from clim_jax.evaluate.datasets import LabelledSet, evaluation_sets
from clim_jax.evaluate.features import normalise
from clim_jax.evaluate.task import Rows, Task
from clim_jax.experiment import experiment
from clim_jax.experiment.configuration import ConfigError
from clim_jax.models.resnet import ARCHITECTURES
from clim_jax.probes.subjects import Subject

_SCRIPT = pathlib.Path(__file__).parent / "peer_lightly.py"
_PROTOCOLS = {
  "knn": feature_protocols.knn,
  "linear_cached": feature_protocols.linear_cached,
  "few_label": feature_protocols.few_label,
}
# What the peer does whatever a config says.
_FIXED = {
  "data.source": "npz",
  "views.max_scales": (1.0,),
  "views.aspect_ratio": (3 / 4, 4 / 3),
  "views.evaluation_fraction": 1.0,
  "augment.solarize_probability": 0.0,
  "moco.momentum_schedule": "constant",
  "moco.symmetric": False,
  "selection.rule": "none",
  "optimizer.name": "sgd",
  "optimizer.warmup_epochs": 0.0,
  "optimizer.decay_all": True,
  "optimizer.accumulate_steps": 1,
  "evaluation.layer": "features",
  "evaluation.scales": (1.0,),
}


def options(config: ConfigDict, num_images: int) -> dict[str, Any]:
  """What peer_lightly.py is told of a run, but for the files that it writes.

  Args:
    config: of a run.
    num_images: that it trains on.

  Raises:
    ConfigError: the peer cannot do what the config asks.
  """
  for key, value in _FIXED.items():
    found = functools.reduce(lambda part, name: part[name], key.split("."), config)
    if found != value:
      raise ConfigError(f"{key}={found}: the peer has {value} alone")
  model, moco, sgd = config.model, config.moco, config.optimizer
  return {
    "train": config.data.path,
    "test": config.data.test_path,
    "seed": config.seed,
    "steps": config.epochs * (num_images // config.batch_size),
    "batch_size": config.batch_size,
    "layers": ARCHITECTURES[model.backbone][1],
    "stem": model.stem,
    "width": model.width,
    "hidden_dim": model.hidden_dim,
    "embedding_dim": model.embedding_dim,
    "temperature": moco.temperature,
    "queue_size": moco.queue_size,
    "key_momentum": moco.momentum,
    "learning_rate": sgd.learning_rate * config.batch_size / 256,
    "sgd_momentum": sgd.momentum,
    "weight_decay": sgd.weight_decay,
    "transform": transform_options(config),
  }


def transform_options(config: ConfigDict) -> dict[str, Any]:
  """Arguments of lightly's MoCoV2Transform."""
  augment, views, data = config.augment, config.views, config.data
  return {
    "input_size": views.sides[0],
    "min_scale": views.min_scales[0],
    "cj_prob": augment.jitter_probability,
    "cj_strength": 1.0,  # times the four that follow
    "cj_bright": augment.brightness,
    "cj_contrast": augment.contrast,
    "cj_sat": augment.saturation,
    "cj_hue": augment.hue,
    "random_gray_scale": augment.grayscale_probability,
    "gaussian_blur": augment.blur_probability,
    "sigmas": augment.blur_sigma,
    "hf_prob": augment.flip_probability,
    "normalize": {"mean": data.pixel_mean, "std": data.pixel_std},
  }


@dataclasses.dataclass(frozen=True)
class FeatureTask(Task):
  """A task whose features are there already."""

  features: tuple[np.ndarray, np.ndarray]  # of training and test images, [N, F] float32

  @functools.cached_property
  def rows(self) -> tuple[Rows, Rows]:
    labels = self.data.train_labels, self.data.test_labels
    train, test = (
      Rows(normalise(np.array(features)), part)
      for features, part in zip(self.features, labels, strict=True)
    )
    return train, test


def judge(
  config: ConfigDict,
  data: LabelledSet,
  features: tuple[np.ndarray, np.ndarray],
  name: str,
) -> list[results.Result]:
  """The figures of features by the protocols of a config.

  Args:
    config: of a run.
    data: whose images they are of.
    features: of the training and of the test images, [N, F] float32.
    name: of their encoder.
  """
  mesh = sharding.make_mesh(jax.devices()[:1])
  encoder = experiment.make_encoder(config, mesh, groups=1)  # its shape, for the stamp
  task = FeatureTask(
    mesh=mesh,
    subject=Subject(name, encoder, {}),
    data=data,
    crop=experiment.evaluation_crop(config),
    flip_probability=config.augment.flip_probability,
    config=config.evaluation,
    track=lambda loop, what: loop,
    features=features,
  )
  return [
    result
    for protocol in config.evaluation.protocols
    for result in _PROTOCOLS[protocol](task)
  ]


def run(config: ConfigDict, workdir: pathlib.Path) -> None:
  """Leaves in a folder what the ablation keeps of a run."""
  peer_process.require_peers()
  (data,) = evaluation_sets(config)
  workdir.mkdir(parents=True, exist_ok=True)
  features, asked = workdir / "features.npz", workdir / "options.json"
  files = {"log": str(workdir / "metrics.jsonl"), "output": str(features)}
  asked.write_text(json.dumps(options(config, data.train.num_images) | files))
  subprocess.run([peer_process.PYTHON, _SCRIPT, asked], check=True)
  with np.load(features) as parts:
    found = judge(config, data, (parts["train"], parts["test"]), workdir.name)
  (workdir / "evaluation.json").write_text(results.to_json(found))
  history = {"devices": "1 × cpu (PyTorch)"}
  (workdir / "history.jsonl").write_text(json.dumps(history) + "\n")


def main(arguments: Sequence[str]) -> None:
  command = parse(arguments)
  run(command.config, pathlib.Path(command.flags["workdir"]))


if __name__ == "__main__":
  main(sys.argv[1:])
