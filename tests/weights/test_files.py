"""Files are read without running code, and a bad one is named with what is wrong."""

import argparse
import collections
import enum
import functools
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import safetensors
import torch
from networks import assert_same_bits

from clim_jax.weights.error import WeightsError
from clim_jax.weights.files import read_tensors, write_safetensors, write_torch

TENSORS = {
  "a": np.arange(6, dtype=np.float32).reshape(2, 3),
  "b": np.array(0, np.int64),
}


class Trap:
  """A pickle of it asks for a folder to be made where it is read."""

  def __init__(self, path, call):
    self._path, self._call = str(path), call

  def __reduce__(self):
    given = {subprocess.call: ["mkdir", self._path], os.mkdir: self._path}
    return (self._call, (given.get(self._call, pathlib.Path(self._path)),))


def _torch_tensors(values=TENSORS):
  return {name: torch.from_numpy(value.copy()) for name, value in values.items()}


@pytest.mark.parametrize(
  ("write", "name"),
  [
    (write_safetensors, "a.safetensors"),
    (write_torch, "a.pth"),
    (write_torch, "a.pt"),
    (write_torch, "a.bin"),
    (write_torch, "a.pth.tar"),
  ],
)
def test_what_is_written_is_read_bit_for_bit(tmp_path, write, name):
  write(tmp_path / name, TENSORS)
  assert_same_bits(read_tensors(tmp_path / name), TENSORS)


def test_safetensors_say_that_their_tensors_are_laid_out_as_pytorchs(tmp_path):
  write_safetensors(tmp_path / "a.safetensors", TENSORS)
  with safetensors.safe_open(tmp_path / "a.safetensors", "np") as file:
    assert file.metadata() == {"format": "pt"}


def test_a_file_of_an_old_pytorch_is_read(tmp_path):
  path = tmp_path / "a.pth.tar"
  torch.save(_torch_tensors(), path, _use_new_zipfile_serialization=False)
  assert_same_bits(read_tensors(path), TENSORS)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_stands_for_the_model_in_it(tmp_path, name):
  write = write_safetensors if name.endswith("safetensors") else write_torch
  write(tmp_path / name, TENSORS)
  assert_same_bits(read_tensors(tmp_path), TENSORS)


@pytest.mark.parametrize(
  "wrap",
  [
    lambda state: {"epoch": 200, "arch": "resnet50", "state_dict": state},
    lambda state: {"epoch": 3, "model": state, "optimizer": {"state": {}}},
    lambda state: {"student": {"a": torch.zeros(1)}, "teacher": state},
    lambda state: {"student": state},
    lambda state: {"model": {"state_dict": state}},
    lambda state: collections.OrderedDict(state),
    lambda state: state | {"version": 2, "name": "x"},
    lambda state: {n: torch.nn.Parameter(v, False) for n, v in state.items()},
  ],
)
def test_weights_are_taken_out_of_what_training_saves(tmp_path, wrap):
  path = tmp_path / "a.pth"
  torch.save(wrap(_torch_tensors()), path)
  assert_same_bits(read_tensors(path), TENSORS)


def test_a_command_line_beside_the_weights_does_no_harm(tmp_path):
  # As in DINO's full checkpoints.
  path = tmp_path / "a.pth"
  args = argparse.Namespace(arch="resnet50", lr=0.3)
  torch.save({"teacher": _torch_tensors(), "args": args}, path)
  assert_same_bits(read_tensors(path), TENSORS)


def test_bfloat16_is_widened(tmp_path):
  path = tmp_path / "a.pth"
  torch.save({"a": torch.tensor([1.5, -2.0], dtype=torch.bfloat16)}, path)
  assert_same_bits(read_tensors(path), {"a": np.float32([1.5, -2])})


@pytest.mark.parametrize("call", [os.mkdir, pathlib.Path.mkdir, subprocess.call])
@pytest.mark.parametrize("save", ["zip", "legacy"])
def test_code_beside_the_weights_is_not_run(tmp_path, save, call):
  marker, path = tmp_path / "marker", tmp_path / "a.pth"
  content = {"state_dict": _torch_tensors(), "extra": Trap(marker, call)}
  torch.save(content, path, _use_new_zipfile_serialization=save == "zip")
  assert_same_bits(read_tensors(path), TENSORS)
  assert not marker.exists()
  # The trap does work where code is run.
  with path.open("rb") as file:
    torch.load(file, weights_only=False)
  assert marker.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_alone_is_no_file_of_weights_and_not_run(tmp_path, protocol):
  # The protocol of a bare pickle; PyTorch reads up to 2.
  marker, path = tmp_path / "marker", tmp_path / "a.pth"
  path.write_bytes(pickle.dumps(Trap(marker, os.mkdir), protocol=protocol))
  with pytest.raises(WeightsError, match=r"a\.pth (is no|holds no)"):
    read_tensors(path)
  assert not marker.exists()
  with path.open("rb") as file:
    pickle.load(file)
  assert marker.exists()


class Config(dict):
  """As omegaconf's and Lightning's: a dict with attributes, in a list, as a key."""


class Choice(enum.Enum):
  ADAM = 1


def test_a_config_object_beside_the_weights_does_no_harm(tmp_path):
  config = Config(lr=0.3, choice=Choice.ADAM, path=pathlib.Path("x"))
  config.parent, config.made = [Config()], functools.partial(Config, a=1)
  content = {
    "epoch": 3,
    "hyper_parameters": config,
    "callbacks": {Choice.ADAM: {"best": np.float32(1)}, Config: None},
    "state_dict": _torch_tensors(),
  }
  torch.save(content, tmp_path / "a.ckpt")
  assert_same_bits(read_tensors(tmp_path / "a.ckpt"), TENSORS)


def test_of_a_whole_module_the_state_is_read(tmp_path):
  module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
  torch.save({"model": module}, tmp_path / "a.pth")
  expected = {name: value.numpy() for name, value in module.state_dict().items()}
  assert_same_bits(read_tensors(tmp_path / "a.pth"), expected)


def test_numbers_of_numpy_beside_the_weights_do_no_harm(tmp_path):
  best = {"best_acc1": np.float64(67.5), "best_epoch": np.int64(3)}
  torch.save({"state_dict": _torch_tensors(), **best}, tmp_path / "a.ckpt")
  assert set(read_tensors(tmp_path / "a.ckpt")) == set(_torch_tensors())


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.pth.tar"])
@pytest.mark.parametrize(
  "content", [b"plain text, and not a little of it\n" * 9, b"{}", b"\x80\x04}."]
)
def test_what_is_no_checkpoint_is_told(tmp_path, name, content):
  path = tmp_path / name
  path.write_bytes(content)
  with pytest.raises(WeightsError, match=f"{name} (is no|holds no)"):
    read_tensors(path)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_half_a_file_is_told(tmp_path, name):
  path = tmp_path / name
  (write_torch if name == "a.pth" else write_safetensors)(path, TENSORS)
  path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(WeightsError, match="fetch or copy it again"):
    read_tensors(path)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_an_empty_file_is_told(tmp_path, name):
  (tmp_path / name).touch()
  with pytest.raises(WeightsError, match="is empty"):
    read_tensors(tmp_path / name)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], 7])
def test_a_file_without_tensors_is_told(tmp_path, content):
  torch.save(content, tmp_path / "a.pth")
  with pytest.raises(WeightsError, match="holds no tensors"):
    read_tensors(tmp_path / "a.pth")


def test_other_paths_are_told(tmp_path):
  with pytest.raises(WeightsError, match=r"b\.pth does not exist"):
    read_tensors(tmp_path / "b.pth")
  with pytest.raises(WeightsError, match=r"folder without model\.safetensors or"):
    read_tensors(tmp_path)
  (tmp_path / "a.npz").write_bytes(b"x")
  with pytest.raises(WeightsError, match=r"must end in \.safetensors, \.pth"):
    read_tensors(tmp_path / "a.npz")


def test_numbers_that_numpy_lacks_are_told(tmp_path):
  from safetensors.torch import save_file

  path = tmp_path / "a.safetensors"
  save_file({"a": torch.ones(2, dtype=torch.bfloat16)}, path)
  with pytest.raises(WeightsError, match="'BF16' numbers"):
    read_tensors(path)


def test_without_torch_safetensors_alone_is_read(tmp_path, monkeypatch):
  write_safetensors(tmp_path / "a.safetensors", TENSORS)
  write_torch(tmp_path / "a.pth", TENSORS)
  monkeypatch.setitem(sys.modules, "torch", None)
  assert_same_bits(read_tensors(tmp_path / "a.safetensors"), TENSORS)
  with pytest.raises(WeightsError, match="pip install torch"):
    read_tensors(tmp_path / "a.pth")
