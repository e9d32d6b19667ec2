"""What a file says of its size is believed before it is decoded."""

import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from test_decode import CROP, encoded, picture

from clim_jax.data import decode, depth
from clim_jax.data.crops import UNIFORMS
from clim_jax.data.decode import decode_crops, decode_whole
from clim_jax.data.encoded import ReadError
from clim_jax.data.pipeline import crop_batches
from clim_jax.data.sight import look
from clim_jax.data.size import MOST_PIXELS
from clim_jax.data.source import BadImageError
from clim_jax.data.sources import folder_source

PIXELS = 10 * 14  # of a picture
KINDS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM")


def bomb(kind):
  """A small file that says it has 60,000 × 60,000 pixels."""
  whole, side = bytearray(encoded(picture(), kind)), 60_000
  if kind == "PNG":
    whole[16:24] = struct.pack(">II", side, side)
  if kind == "JPEG":
    at = whole.index(b"\xff\xc0") + 5
    whole[at : at + 4] = struct.pack(">HH", side, side)
  if kind == "BMP":
    whole[18:26] = struct.pack("<II", side, side)
  return bytes(whole)


def in_graph(bytes_, max_pixels):
  """As training decodes."""
  numbers = tf.zeros((1, UNIFORMS))
  cut = tf.function(decode_crops, autograph=False)
  return cut(tf.constant(bytes_), (CROP,), numbers, max_pixels=max_pixels)


def test_the_most_is_what_pillow_allows():
  assert MOST_PIXELS == 2 * Image.MAX_IMAGE_PIXELS


# One of each way to decode; the others at night.
@pytest.mark.parametrize(
  "kind",
  [
    k if k in ("JPEG", "PNG", "WEBP") else pytest.param(k, marks=pytest.mark.slow)
    for k in KINDS
  ],
)
def test_an_image_of_as_many_pixels_is_read_and_of_one_more_refused(kind):
  bytes_ = encoded(picture(), kind)
  assert in_graph(bytes_, PIXELS)[0].shape == (8, 8, 3)
  assert decode_whole(tf.constant(bytes_), PIXELS).shape == (10, 14, 3)
  with pytest.raises(ReadError):
    in_graph(bytes_, PIXELS - 1)
  with pytest.raises((ValueError, ReadError)) as refused:
    decode_whole(tf.constant(bytes_), PIXELS - 1)
  assert "10 × 14 pixels are more than data.max_pixels=139" in str(refused.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP"])
def test_nothing_of_a_bomb_is_decoded(kind, monkeypatch):
  def decoded(*_, **__):
    raise AssertionError("it is decoded")

  bytes_ = bomb(kind)
  for name in ("decode_jpeg", "decode_and_crop_jpeg", "decode_png"):
    # As an operation of the graph: to trace it is not to do it.
    monkeypatch.setattr(
      decode.tf.io,
      name,
      lambda *_, **__: tf.ensure_shape(
        tf.numpy_function(decoded, [], tf.uint8), (None, None, 3)
      ),
    )
  monkeypatch.setattr(Image.Image, "convert", decoded)
  with pytest.raises(ReadError) as refused:
    in_graph(bytes_, MOST_PIXELS)
  assert "it is decoded" not in str(refused.value)
  with pytest.raises((ValueError, ReadError)) as refused:
    decode_whole(tf.constant(bytes_), MOST_PIXELS)
  assert "it is decoded" not in str(refused.value)
  assert str(MOST_PIXELS) in str(refused.value)


@pytest.fixture
def folder(tmp_path):
  """Three small pictures and a bomb of each kind."""
  for number in range(3):
    (tmp_path / f"{number}.png").write_bytes(encoded(picture(), "PNG"))
  for kind in ("JPEG", "PNG", "BMP"):
    (tmp_path / f"bomb.{kind.lower()}").write_bytes(bomb(kind))
  return tmp_path


def batches(source):
  ids = np.arange(source.num_images)
  turns = [(ids, np.zeros((len(ids), UNIFORMS), np.float32))]
  return list(crop_batches(source, turns, CROP, len(ids)))


def test_bombs_are_told_like_any_bad_image(folder):
  source, _ = folder_source(str(folder))
  with pytest.raises(BadImageError) as refused:
    batches(source)
  told = str(refused.value)
  assert told.startswith("cannot decode 3 of 6 images")
  for kind in ("jpeg", "png"):
    assert f"bomb.{kind}: 60000 × 60000 pixels are more than data.max_pixels" in told
  assert "set data.on_bad_image=skip" in told


def test_bombs_are_skipped_and_seen_by_a_check(folder):
  source, names = folder_source(str(folder), on_bad_image="skip")
  (crops,) = batches(source)
  assert crops.shape == (6, 8, 8, 3)
  bombs = {image for image, name in enumerate(names) if "/bomb." in name}
  assert set(source.stand_ins) == bombs
  assert {image for image in range(6) if look(source, image).fault} == bombs


def test_a_smaller_bound_may_be_asked_for_and_raised(folder):
  source, names = folder_source(str(folder), max_pixels=100)
  with pytest.raises(BadImageError, match=r"10 × 14 .*max_pixels=100: .*raise the key"):
    source.replace_bad(np.array([names.index(str(folder / "1.png"))]))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_look_for_white_passes_bombs_over(kind, tmp_path):
  deep = Image.fromarray(np.full((8, 8), 4095, np.uint16))
  path = tmp_path / f"a.{kind.lower()}"
  path.write_bytes(encoded(deep, kind))
  assert depth._largest(str(path), 64) == 4095
  assert depth._largest(str(path), 63) == 0
