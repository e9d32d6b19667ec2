"""Configs that cannot work are refused with the value, the limit and the mend."""

import pytest

from clim_jax.configs import (
  base,
  cifar10,
  cifar10_moco_demo,
  clim_imagenet,
  imagenette,
  moco_v2_imagenet,
  moco_v2_multires_imagenet,
)
from clim_jax.configs.pods import h100_8, v4_32, v5e_64
from clim_jax.experiment import limits
from clim_jax.experiment.configuration import ConfigError
from clim_jax.experiment.keys import BASE


def set_key(config, key, value):
  *sections, name = key.split(".")
  for section in sections:
    config = config[section]
  config[name] = value


def changed(key, value):
  config = base.get_config()
  set_key(config, key, value)
  return config


def numbers():
  """Every key that holds numbers, with minus seven in the place of each."""
  for key, like in BASE.items():
    rows = like if isinstance(like, tuple) else (like,)
    first = rows[0][0] if rows and isinstance(rows[0], tuple) else (*rows, "")[0]
    if isinstance(first, bool | str):
      continue
    bad = type(first)(-7)
    if rows[0] is not first:
      yield key, ((bad,) * len(rows[0]),)
    else:
      yield key, (bad,) * len(rows) if isinstance(like, tuple) else bad


@pytest.mark.parametrize(("key", "value"), [*numbers()])
def test_no_number_of_a_config_may_be_minus_seven(key, value):
  with pytest.raises(ConfigError) as refused:
    limits.check_config(changed(key, value), devices=1)
  assert key.rsplit(".", 1)[-1] in str(refused.value)


@pytest.mark.parametrize(
  ("key", "value", "message"),
  [
    ("batch_size", 100, "batch_size 100 must divide by 8 devices"),
    ("batch_size", 8, "at least 2"),
    ("model.batch_norm_groups", -8, "set it to 8 or a multiple"),
    ("model.batch_norm_groups", 4, "set it to 8 or a multiple"),
    ("model.batch_norm_groups", 512, "equally many images"),
    ("model.backbone", "resnet19", "resnet18"),
    ("model.stem", "none", "imagenet, cifar"),
    ("model.dtype", "float16", "bfloat16"),
    ("data.pixel_mean", (123.7, 116.3, 103.5), "divide by 255"),
    ("data.pixel_std", (58.4, 57.1, 57.4), "divide by 255"),
    ("data.white_level", -1, "≥ 0"),
    ("data.labels", "folders", "auto, none"),
    ("data.source", "disk", "digits, npz, folder, tfds"),
    ("selection.rule", "all", "center_wise"),
    ("selection.refresh_epochs", 0, "> 0"),
    ("augment.implementation", "cuda", r"augment\.implementation 'cuda' .* 'xla'"),
    ("augment.hue", 0.7, r"augment\.hue 0\.7 must lie in \[0, 0\.5\]"),
    ("augment.contrast", -1.0, r"augment\.contrast -1\.0 must not be negative"),
    ("augment.blur_sigma", (2.0, 1.0), r"augment\.blur_sigma"),
    ("mixture.kind", "cut", "cutmix"),
    ("mixture.weight", 1.5, r"in \[0, 1\]"),
    ("optimizer.name", "adam", "adamw"),
    ("optimizer.accumulate_steps", 0, "at least 1"),
    ("optimizer.accumulate_steps", 3, "3 accumulate_steps"),
    ("moco.queue_size", 128, "must hold the 256 keys"),
    ("moco.temperature", 0.0, "> 0"),
    ("moco.momentum_schedule", "linear", "cosine"),
    ("views.sides", (32, 16), "equally many"),
    ("views.min_scales", (1.5,), "min ≤ max"),
    ("evaluation.protocols", ("knn", "svm"), "'svm' must be one of knn, linear_cached"),
    ("evaluation.references", ("noise",), "untrained, raw_pixels"),
    ("evaluation.layer", "layer4", "features, hidden, embedding"),
    ("evaluation.encoder", "teacher", "query, key"),
    ("evaluation.knn.neighbours", (), r"knn\.neighbours is empty"),
    ("evaluation.validation_fraction", 0.0, r"in \(0, 1\)"),
    ("evaluation.linear.epochs", 0, r"linear\.epochs 0 must be > 0"),
    ("evaluation.finetune.fractions", (0.1, 10.0), r"fractions 10\.0 .* \(0, 1\]"),
    ("evaluation.finetune.settings", ((0.1,),), r"settings \(0\.1,\) must be"),
    ("evaluation.crop_scale", (1.0, 0.5), "min ≤ max"),
    ("evaluation.scales", (1.0, 0.01), "at least 1 pixel"),
    ("online.every_epochs", -1, "≥ 0"),
    ("checkpoint.best", "loss", "online/knn_top1, online/linear_top1"),
    ("checkpoint.best", "online/knn_top1", "set online.every_epochs to 1 or more"),
    ("evaluation.batch_size", 12, "8 devices"),
    ("epochs", 0, "epochs 0 must be > 0"),
    ("checkpoint.keep", 0, "checkpoint.keep 0 must be ≥ 1; a large number"),
    ("checkpoint.keep", -1, "checkpoint.keep -1 must be ≥ 1; a large number"),
    ("checkpoint.every_minutes", -1.0, "0 saves by epochs alone"),
  ],
)
def test_a_value_out_of_range_is_refused(key, value, message):
  with pytest.raises(ConfigError, match=message):
    limits.check_config(changed(key, value), devices=8)


@pytest.mark.parametrize("name", ["linear", "finetune"])
def test_a_batch_of_a_protocol_must_divide_where_the_protocol_runs(name):
  config = changed(f"evaluation.{name}.batch_size", 100)
  limits.check_config(config, devices=8)
  config.evaluation.protocols = ("knn", name)
  with pytest.raises(ConfigError, match=rf"{name}\.batch_size 100 .* 8 devices"):
    limits.check_config(config, devices=8)


def test_sides_must_fall():
  config = base.get_config()
  config.views.update(sides=(16, 32), min_scales=(0.1, 0.2), max_scales=(1.0, 1.0))
  with pytest.raises(ConfigError, match="must fall"):
    limits.check_config(config, devices=1)


@pytest.mark.parametrize(
  ("key", "value", "message"),
  [
    ("batch_size", 256, "batch_size 256 exceeds the 100 training images"),
    ("selection.num_centers", 101, "num_centers 101 exceeds the 100"),
    ("selection.num_neighbours", 100, "at most 99"),
  ],
)
def test_a_value_that_the_data_rule_out_is_refused(key, value, message):
  config = base.get_config()
  config.batch_size, config.selection.num_centers = 64, 10
  set_key(config, key, value)
  with pytest.raises(ConfigError, match=message):
    limits.check_against_data(config, num_images=100)


@pytest.mark.parametrize("key", ["epochs", "optimizer.warmup_epochs"])
def test_more_steps_than_can_be_counted_are_refused(key):
  config = changed(key, 2**31 - 1)
  config.batch_size = 10
  config.selection.rule = "none"
  limits.check_against_data(config, num_images=15)
  with pytest.raises(ConfigError, match=f"{key} 2147483647.* at most 214748364"):
    limits.check_against_data(config, num_images=109)


def test_centers_and_neighbours_do_not_matter_without_selection():
  config = base.get_config()
  config.selection.update(rule="none", num_centers=1000, num_neighbours=1000)
  config.batch_size = 64
  limits.check_against_data(config, num_images=100)


def test_the_base_config_passes():
  limits.check_config(base.get_config(), devices=8)


@pytest.mark.parametrize("devices", [1, 2, 4, 8, 16, 32, 64])
@pytest.mark.parametrize(
  "module",
  [
    *(cifar10, cifar10_moco_demo, imagenette),
    *(moco_v2_imagenet, moco_v2_multires_imagenet, clim_imagenet),
  ],
)
def test_every_config_runs_on_any_common_number_of_devices(module, devices):
  config = limits.with_groups(module.get_config(), devices=devices)
  limits.check_config(module.get_config(), devices=devices)
  limits.check_config(config, devices=devices)
  assert config.model.batch_norm_groups == max(8, devices)


@pytest.mark.parametrize(
  ("module", "devices"), [(v4_32, 16), (v5e_64, 64), (h100_8, 8)]
)
def test_a_config_of_a_pod_runs_there_with_whole_groups(module, devices):
  config = module.get_config()
  limits.check_config(config, devices=devices)
  groups = limits.with_groups(config, devices=devices).model.batch_norm_groups
  assert config.batch_size // groups >= 16  # enough for the statistics of a group


def test_parts_of_a_batch_have_groups_of_their_own():
  config = base.get_config()
  config.optimizer.accumulate_steps = 4
  limits.check_config(config, devices=8)
  assert limits.with_groups(config, devices=8).model.batch_norm_groups == 32
  assert limits.with_groups(config, devices=1).model.batch_norm_groups == 8


def test_a_number_of_groups_that_is_given_stands():
  config = changed("model.batch_norm_groups", 32)
  assert limits.with_groups(config, devices=16).model.batch_norm_groups == 32
