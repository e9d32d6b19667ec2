"""Formats besides JPEG and PNG, and photographs that were taken sideways."""

import functools
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from clim_jax.data.crops import UNIFORMS, CenterCrop, RandomCrop
from clim_jax.data.decode import decode_crops
from clim_jax.data.orientation import read_orientation
from clim_jax.data.source import BadImageError
from clim_jax.data.sources import folder_source

CROP = CenterCrop(8, 1.0)


def picture(height=10, width=14):
  rows, columns = np.mgrid[:height, :width]
  pixels = np.stack([rows * 20, columns * 15, rows * 0 + 90], -1)
  return Image.fromarray(pixels.astype(np.uint8))


def encoded(image, kind, **options):
  out = io.BytesIO()
  image.save(out, kind, **options)
  return out.getvalue()


@functools.cache  # tracing is what costs
def crop_function(crops, white):
  return tf.function(
    lambda bytes_, uniforms: decode_crops(bytes_, crops, uniforms, white),
    autograph=False,
  )


def decoded(bytes_, crops=(CROP,), *, seed=0, white=65535):
  uniforms = np.random.default_rng(seed).random((len(crops), UNIFORMS), np.float32)
  found = crop_function(crops, white)(tf.constant(bytes_), tf.constant(uniforms))
  return [image.numpy().astype(int) for image in found]


@pytest.mark.parametrize(
  "kind", ["WEBP", "AVIF", "BMP", "GIF", "TIFF", "JPEG2000", "PPM"]
)
@pytest.mark.parametrize("mode", ["RGB", "P", "L"])
def test_other_formats_show_what_the_same_pixels_in_a_png_show(kind, mode):
  if (kind, mode) in (("JPEG2000", "P"), ("PPM", "P")):
    mode = "RGB"
  options = {"lossless": True} if kind == "WEBP" else {}
  bytes_ = encoded(picture().convert(mode), kind, **options)
  as_read = Image.open(io.BytesIO(bytes_)).convert("RGB")
  (found,), (expected,) = decoded(bytes_), decoded(encoded(as_read, "PNG"))
  np.testing.assert_array_equal(found, expected)
  assert found.std() > 10


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_photograph_is_cropped_as_if_stored_upright(orientation, order, kind):
  # Large, so that crops are decoded at a fraction of their size, too.
  exif = Image.Exif()
  exif.endian = order
  exif[274] = orientation
  big = picture().resize((14 * 16, 10 * 16), Image.BICUBIC)
  options = {"quality": 100} | ({"subsampling": 0} if kind == "JPEG" else {})
  sideways = encoded(big, kind, exif=exif, **options)
  upright = ImageOps.exif_transpose(Image.open(io.BytesIO(sideways)))
  crops = (
    RandomCrop(9, (0.1, 0.6), (0.7, 1.4)),
    CROP,
    RandomCrop(64, (0.5, 1), (1, 1)),
  )
  found = decoded(sideways, crops)
  expected = decoded(encoded(upright.convert("RGB"), "PNG"), crops)
  for one, other in zip(found, expected, strict=True):
    # The inverse DCT shrinks by another filter than the one of a PNG's crops.
    assert np.abs(one - other).max() <= 6
    assert other.std() > 10


def test_a_file_with_and_without_notes_of_other_kinds_is_upright():
  assert read_orientation(encoded(picture(), "JPEG")) == 1
  assert read_orientation(encoded(picture(), "JPEG", comment=b"x", dpi=(9, 9))) == 1
  assert read_orientation(b"\xff\xd8\xff\xe1\0") == 1
  exif = Image.Exif()
  exif[274] = 99
  assert read_orientation(encoded(picture(), "JPEG", exif=exif)) == 1
  exif[274] = 6
  assert read_orientation(encoded(picture(), "JPEG", exif=exif, comment=b"x")) == 6


def deep_picture(white):
  rows, columns = np.mgrid[:10, :14]
  return (white * (rows + columns) / 22).round().astype(np.uint16)


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("white", [4095, 65535])
def test_images_of_16_bits_are_scaled_by_what_is_white(kind, white):
  deep = deep_picture(white)
  (found,) = decoded(encoded(Image.fromarray(deep), kind), white=white)
  shown = Image.fromarray((deep / white * 255).round().astype(np.uint8))
  (expected,) = decoded(encoded(shown, "PNG"))
  np.testing.assert_array_equal(found, expected)
  assert found.max() > 200


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("reached", [1000, 4095, 16383])
def test_a_folder_of_fewer_bits_than_16_is_refused_with_its_white(
  kind, reached, tmp_path
):
  for index in range(40):
    (tmp_path / f"{index}.jpg").write_bytes(encoded(picture(), "JPEG"))
  deep = encoded(Image.fromarray(deep_picture(reached)), kind)
  (tmp_path / f"deep.{kind}").write_bytes(deep)
  white = 2 ** int(reached).bit_length() - 1
  with pytest.raises(ValueError, match=f"data.white_level={white}, or 65535"):
    folder_source(str(tmp_path))
  for asked in (white, 65535):
    assert folder_source(str(tmp_path), white_level=asked)[0].white == asked


def test_a_folder_of_all_16_or_of_8_bits_needs_no_white(tmp_path):
  (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(deep_picture(50000)), "PNG"))
  (tmp_path / "b.png").write_bytes(encoded(picture(), "PNG"))
  (tmp_path / "c.png").write_bytes(b"broken")
  assert folder_source(str(tmp_path))[0].white == 65535


def test_pixels_of_other_kinds_are_refused_and_not_clipped(tmp_path):
  deep = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
  (tmp_path / "a.tif").write_bytes(encoded(Image.fromarray(deep), "TIFF"))
  source, _ = folder_source(str(tmp_path))
  with pytest.raises(BadImageError, match=r"a\.tif: pixels are of mode F; convert"):
    source.replace_bad(np.array([0]))


def test_all_unreadable_files_are_told_together(tmp_path):
  for index in range(16):
    (tmp_path / f"{index:02}.jpg").write_bytes(encoded(picture(), "JPEG"))
  for index in range(2, 15):
    (tmp_path / f"{index:02}.jpg").write_bytes(b"<html>not found</html>")
  source, _ = folder_source(str(tmp_path))
  with pytest.raises(BadImageError) as caught:
    source.replace_bad(np.array([2, 0]))
  message = str(caught.value)
  assert message.startswith("cannot decode 13 of 16 images looked at:")
  assert message.count(".jpg: no image of a known format") == 10
  assert "and 3 more" in message
