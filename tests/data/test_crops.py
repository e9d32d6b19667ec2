"""Boxes against torchvision's rules, resizing against PIL."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import stats
from skimage import data

from clim_jax.data.boxes import boxes, boxes_of
from clim_jax.data.crops import UNIFORMS, CenterCrop, RandomCrop
from clim_jax.data.decode import decode_crops
from clim_jax.data.resize import resize_crops, resize_image

CROP = RandomCrop(16, (0.2, 1.0), (3 / 4, 4 / 3))


@pytest.fixture(scope="module")
def picture():
  return np.asarray(Image.fromarray(data.astronaut()).resize((120, 90)))


def uniforms(*shape, seed=0):
  return np.random.default_rng(seed).random((*shape, UNIFORMS), np.float32)


def pil_crop(image, box, side):
  top, left, height, width = (int(value) for value in box)
  crop = Image.fromarray(image).crop((left, top, left + width, top + height))
  return np.asarray(crop.resize((side, side), Image.Resampling.BILINEAR), int)


@pytest.mark.parametrize("side", [8, 40, 100])
def test_resized_crops_equal_pil_within_a_level(picture, side):
  boxes = CROP.boxes(uniforms(12), 90, 120)
  images = np.broadcast_to(picture, (12, *picture.shape))
  ours = resize_crops(images, boxes, side).numpy().astype(int)
  for crop, box in zip(ours, boxes, strict=True):
    # PIL rounds to a level between its two passes.
    assert np.abs(crop - pil_crop(picture, box, side)).max() <= 1


@pytest.mark.parametrize("side", [8, 40, 100])
def test_one_decoded_image_is_resized_as_a_batch_is(picture, side):
  box = np.array([[10, 20, 60, 70]], np.int32)
  batch = resize_crops(picture[None], box, side)[0].numpy().astype(int)
  one = resize_image(picture, box[0].astype(np.float32), side).numpy().astype(int)
  assert np.abs(batch - one).max() <= 1  # one rounds to a level between its passes


@pytest.mark.parametrize("side", [8, 40, 100])
def test_one_image_is_resized_as_pil_resizes_it(picture, side):
  for box in CROP.boxes(uniforms(12), 90, 120):
    one = resize_image(picture, box.astype(np.float32), side).numpy()
    assert np.abs(one - pil_crop(picture, box, side)).max() <= 1


def test_a_box_of_broken_pixels_starts_where_it_says():
  ramp = np.broadcast_to(np.arange(0, 250, 10, dtype=np.uint8)[:, None], (25, 25))
  ramp = np.stack([ramp, ramp.T, ramp], -1)
  out = resize_image(ramp, np.array([4.5, 6.25, 12, 12], np.float32), 12).numpy()
  # Pixel i has its middle at i + ½ and the level 10 · i there. The last box row is
  # beyond what it touches: the filter has less of the border to draw on.
  np.testing.assert_array_equal(out[:-1, 0, 0], 45 + 10 * np.arange(11))
  np.testing.assert_allclose(out[0, :-1, 1], 62.5 + 10 * np.arange(11), atol=0.5)


def test_crops_drawn_together_get_the_boxes_they_get_alone():
  crops = (CROP, CROP._replace(side=9), RandomCrop(7, (0.05, 0.2), (1.0, 1.0)), CROP)
  numbers = uniforms(4)
  together = boxes_of(crops, numbers, tf.constant(90), tf.constant(120)).numpy()
  for crop, row, box in zip(crops, numbers, together, strict=True):
    alone = crop.boxes(row, 90, 120)
    np.testing.assert_array_equal(box, alone)


@pytest.mark.parametrize(
  "crop",
  [CROP, RandomCrop(9, (0.01, 0.02), (0.3, 3)), CenterCrop(8, 0.7), CenterCrop(8, 1.0)],
)
@pytest.mark.parametrize(
  ("height", "width"), [(8, 8), (32, 32), (90, 120), (7, 301), (400, 10), (1, 1)]
)
def test_tensorflow_has_the_same_boxes(crop, height, width):
  numbers = uniforms(5000)
  sizes = tf.fill([5000], height), tf.fill([5000], width)
  theirs = boxes(crop, numbers, *sizes).numpy()
  differ = (crop.boxes(numbers, height, width) != theirs).any(axis=1)
  # The two exponentials may round another way, and a box then has a pixel more.
  assert differ.sum() <= 2


def test_boxes_lie_inside_with_area_and_ratio_in_range():
  boxes = CROP.boxes(uniforms(4000), 90, 120)
  top, left, height, width = boxes.T
  assert (top >= 0).all()
  assert (left >= 0).all()
  assert (top + height <= 90).all()
  assert (left + width <= 120).all()
  # Rounding the sides to pixels moves area and ratio by a few percent.
  area, ratio = height * width / (90 * 120), width / height
  assert area.min() > 0.19
  assert area.max() <= 1
  assert ratio.min() > 0.73
  assert ratio.max() < 1.37
  assert top.min() == left.min() == 0


def test_the_area_is_uniform_over_its_range():
  crop = RandomCrop(16, (0.1, 0.5), (3 / 4, 4 / 3))  # every try fits a square
  # Large, so that rounding a side to a pixel does not show.
  boxes = crop.boxes(uniforms(2000, seed=2), 5000, 5000).astype(float)
  share = boxes[:, 2] * boxes[:, 3] / 5000**2
  ratio = np.log(boxes[:, 3] / boxes[:, 2])
  assert stats.kstest(share, stats.uniform(0.1, 0.4).cdf).pvalue > 1e-3
  limit = np.log(4 / 3)
  assert stats.kstest(ratio, stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-3
  # And the crop lies anywhere it can.
  place = (boxes[:, :2] + 0.5) / (5001 - boxes[:, 2:])
  assert stats.kstest(place.ravel(), stats.uniform().cdf).pvalue > 1e-3


def test_the_first_try_that_fits_is_taken():
  numbers = uniforms(300, seed=1)
  boxes = CROP.boxes(numbers, 40, 30)
  for row, box in zip(numbers.astype(np.float64), boxes, strict=True):
    for area, log_ratio in zip(row[:10], row[10:20], strict=True):
      ratio = np.exp(np.log(3 / 4) + log_ratio * np.log(16 / 9))
      pixels = 40 * 30 * (0.2 + 0.8 * area)
      width, height = round(np.sqrt(pixels * ratio)), round(np.sqrt(pixels / ratio))
      if width <= 30 and height <= 40:
        break
    else:
      continue  # the fallback has a test of its own
    top, left = int(row[20] * (41 - height)), int(row[21] * (31 - width))
    # float32 against float64: a side may round to the other pixel.
    assert np.abs(box - [top, left, height, width]).max() <= 1


@pytest.mark.parametrize(
  ("height", "width", "expected"),
  [
    (400, 10, [193, 0, 13, 10]),  # the sides are 10 and 10 * 4 / 3
    (10, 400, [0, 193, 10, 13]),
    (30, 1, [14, 0, 1, 1]),
  ],
)
def test_a_shape_that_fits_no_try_gives_the_largest_central_crop(
  height, width, expected
):
  box = CROP.boxes(uniforms(1), height, width)[0]
  assert box.tolist() == expected


def test_no_crop_is_empty_however_narrow_its_ratio():
  crop = RandomCrop(16, (0.2, 1.0), (0.3, 0.4))
  box = crop.boxes(uniforms(1), 1, 30)[0]
  assert box.tolist() == [0, 14, 1, 1]


def test_a_single_image_gets_the_box_it_gets_in_a_batch():
  numbers = uniforms(5)
  batch = CROP.boxes(numbers, 33, 47)
  for row in range(5):
    one = CROP.boxes(numbers[row], 33, 47)
    np.testing.assert_array_equal(one, batch[row])


def test_a_one_pixel_image_can_be_cropped():
  box = CROP.boxes(uniforms(1), 1, 1)
  image = np.full((1, 1, 1, 3), 7, np.uint8)
  assert (resize_crops(image, box, 4).numpy() == 7).all()


def test_center_crop_is_the_central_square():
  box = CenterCrop(8, 0.875).boxes(uniforms(1), 256, 300)
  assert box.tolist() == [[16, 38, 224, 224]]


def encoded(image, kind, **options):
  buffer = io.BytesIO()
  image.save(buffer, kind, **options)
  return buffer.getvalue()


def decoded_center(bytes_, side=24):  # not so small that a JPEG is shrunk
  nothing = np.zeros((1, UNIFORMS), np.float32)
  return decode_crops(tf.constant(bytes_), (CenterCrop(side, 0.5),), nothing)[0].numpy()


def test_a_jpeg_crop_equals_cropping_the_decoded_whole(picture):
  bytes_ = encoded(Image.fromarray(picture), "JPEG", quality=90)
  whole = np.asarray(Image.open(io.BytesIO(bytes_)).convert("RGB"))
  expected = pil_crop(whole, (22, 37, 45, 45), 24)
  # Chroma is interpolated over the crop's border from what is decoded alone.
  error = np.abs(decoded_center(bytes_).astype(int) - expected)
  assert error.mean() < 1
  assert error.max() <= 12


@pytest.mark.parametrize(
  ("kind", "mode", "options"),
  [
    ("PNG", "1", {}),
    ("PNG", "L", {}),
    ("PNG", "LA", {}),
    ("PNG", "RGB", {}),
    ("PNG", "RGBA", {}),
    ("PNG", "P", {}),
    ("PNG", "P", {"transparency": 3}),
    # No chroma to interpolate, so these are as exact as a PNG.
    ("JPEG", "RGB", {"subsampling": 0}),
    ("JPEG", "RGB", {"subsampling": 0, "progressive": True}),
    ("JPEG", "L", {}),
    ("JPEG", "CMYK", {}),
  ],
)
def test_every_mode_is_read_as_rgb_as_pil_reads_it(picture, kind, mode, options):
  image = Image.fromarray(picture).convert("RGBA")
  # Alpha is dropped, not blended: what is below it is seen.
  image.putalpha(Image.linear_gradient("L").resize((120, 90)))
  image = image if mode in ("RGBA", "LA") else image.convert("RGB")
  bytes_ = encoded(image.convert(mode), kind, **options)
  whole = np.asarray(Image.open(io.BytesIO(bytes_)).convert("RGB"))
  expected = pil_crop(whole, (22, 37, 45, 45), 24)
  assert np.abs(decoded_center(bytes_).astype(int) - expected).max() <= 1


def test_a_16_bit_png_keeps_its_upper_byte(picture):
  gray = picture[..., 0]
  deep = gray.astype(np.uint16) * 256 + 99
  expected = pil_crop(gray[..., None].repeat(3, -1), (22, 37, 45, 45), 24)
  out = decoded_center(encoded(Image.fromarray(deep), "PNG")).astype(int)
  assert np.abs(out - expected).max() <= 1


def test_each_crop_of_an_image_has_its_own_numbers_and_side(picture):
  bytes_, numbers = encoded(Image.fromarray(picture), "PNG"), uniforms(2)
  crops = (CROP, RandomCrop(7, (0.05, 0.2), (1.0, 1.0)))
  out = decode_crops(tf.constant(bytes_), crops, numbers)
  for image, crop, row in zip(out, crops, numbers, strict=True):
    box = crop.boxes(row, 90, 120)
    expected = pil_crop(picture, box, crop.side)
    assert np.abs(image.numpy().astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("factor", "ratio"), [(1, 1), (2, 2), (5, 4), (9, 8)])
def test_a_large_jpeg_is_shrunk_in_decoding_without_a_shift(picture, factor, ratio):
  smooth = Image.fromarray(picture).resize((120 * factor, 90 * factor), Image.BICUBIC)
  bytes_ = encoded(smooth, "JPEG", quality=95, subsampling=0)
  numbers = uniforms(2, seed=4)
  boxes = CROP.boxes(numbers, 90 * factor, 120 * factor)
  # As large as the smaller of the crops allows at this ratio, and no larger.
  side = int(boxes[:, 2:].min()) // ratio
  crops = (CROP._replace(side=side), CROP._replace(side=side // 2))
  out = decode_crops(tf.constant(bytes_), crops, numbers)
  whole = np.asarray(Image.open(io.BytesIO(bytes_)))
  for crop, box in zip(out, boxes, strict=True):
    expected = pil_crop(whole, box, crop.shape[0])
    error = crop.numpy().astype(int) - expected
    # The inverse DCT's low-pass filter is not the triangle, but has no bias.
    assert np.abs(error).mean() < 1.5
    assert abs(error.mean()) < 0.2
