"""Files are read without running code, and a bad one is named with what is wrong."""

import argparse
import collections
import os
import pickle
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

  def __init__(self, path):
    self._path = path

  def __reduce__(self):
    return (os.mkdir, (str(self._path),))


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


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("save", ["zip", "legacy", 2, 4])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, save):
  marker, path = tmp_path / "marker", tmp_path / "a.pth"
  content = {"state_dict": _torch_tensors(), "extra": Trap(marker)}
  if save in (2, 4):  # the protocol of a bare pickle; PyTorch reads up to 2
    path.write_bytes(pickle.dumps(content["extra"], protocol=save))
  else:
    torch.save(content, path, _use_new_zipfile_serialization=save == "zip")
  told = "without running code" if save == 4 else r"refused: .*mkdir.*safetensors"
  with pytest.raises(WeightsError, match=rf"a\.pth is .*{told}"):
    read_tensors(path)
  assert not marker.exists()
  # The trap does work where code is run.
  with path.open("rb") as file:
    if save in (2, 4):
      pickle.load(file)
    else:
      torch.load(file, weights_only=False)
  assert marker.exists()


def test_numbers_of_numpy_beside_the_weights_do_no_harm(tmp_path):
  best = {"best_acc1": np.float64(67.5), "best_epoch": np.int64(3)}
  torch.save({"state_dict": _torch_tensors(), **best}, tmp_path / "a.ckpt")
  assert set(read_tensors(tmp_path / "a.ckpt")) == set(_torch_tensors())


def test_a_class_of_elsewhere_is_refused(tmp_path):
  path = tmp_path / "a.pth"
  torch.save(torch.nn.Linear(1, 1), path)
  with pytest.raises(WeightsError, match=r"refused: .*Linear"):
    read_tensors(path)


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
